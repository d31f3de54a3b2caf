"""What others find wrong with a policy file, pydantic or the YAML parser, as faults with a line and a fix."""
