"""What any user can do to have a daemon look at processes all the time, as Python."""

ATTACKS = {
    "rename": "file = open('/proc/self/comm', 'wb', 0)\nwhile True: file.write(b'one'); file.write(b'other')",
    "open": "while True: os.close(os.open('/proc/self/oom_score_adj', os.O_WRONLY | os.O_TRUNC))",
    "rewrite": "file = os.open('/proc/self/oom_score_adj', os.O_WRONLY)\nwhile True: os.write(file, b'7')",
    "fork": "while True: os.fork() or os._exit(0); os.wait()",
    "exec": "while True: os.waitpid(os.posix_spawn('/bin/true', ['/bin/true'], {}), 0)",
}


def attacker(how: str, name: str) -> str:
    """Return a program that names itself and then does one of these until it is ended."""
    return f"import os\nopen('/proc/self/comm', 'w').write('{name}')\n{ATTACKS[how]}"
