"""The control plane: it watches and changes the data plane, which never imports it."""
