"""Installing on a cluster: what it must have, the steps, what serves, and taking it away again.

Everything that is done to a cluster is a ``kubectl`` command; only :mod:`.kubectl` runs one.
"""
