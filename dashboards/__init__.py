"""The dashboard: where frames go, what that saves, what accuracy it costs, whether all is well."""
