"""The YAML policy language: reading, faults by line, lint and compilation."""
