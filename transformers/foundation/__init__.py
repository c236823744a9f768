"""The common ground: errors, storage, HTTP, configuration, the audit log. Imports no other room."""
