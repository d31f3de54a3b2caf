"""Values as journal entries, status file, tables, JSON and HTML.

The daemon uses `events`, `reporter`, `journal`, what ends in `_entries`, and `status_file`. For verbs, a
`_table` is text, a `_document` JSON and a `_page` HTML.
"""
