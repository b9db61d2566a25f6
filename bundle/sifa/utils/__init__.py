"""Helpers without any of the method: errors, files, paths, options, processes, keys."""
