"""Values as journal entries, status file, tables and JSON."""
