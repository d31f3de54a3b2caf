"""The verbs: parse arguments, call one function, choose the exit code."""
