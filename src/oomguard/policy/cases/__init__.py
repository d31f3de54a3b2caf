"""Case files: tests of policies, for `oomguard test`. `case_file.load_cases` is the entry."""
