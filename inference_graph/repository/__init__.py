"""A server that loads rungs and policies by request, for Seldon Core 2 and others that do so."""
