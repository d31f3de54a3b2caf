"""What other tools are told, said as a policy. Each module reads one tool's files into a draft."""
