"""Requests that were refused before a model was called, counted for the account whose key they carried."""
