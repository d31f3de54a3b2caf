"""Other tools' settings as a policy. Each module reads the files of one tool into a draft."""
