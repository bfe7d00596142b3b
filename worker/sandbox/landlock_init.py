"""The first program inside a Landlock sandbox: restricts itself and becomes the real program.

Run as `python -I -S landlock_init.py RULES PROGRAM...`, where RULES is the JSON of `{"handled": [file, net, scope],
"paths": [[path, rights]...], "system_calls": hex}`; standard library only. The rights are those of landlock.py. A path
that is not there is left out; what the kernel refuses ends this process with a line.
"""

import ctypes
import json
import os
import struct
import sys

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # <asm/unistd.h>, the same on x86_64 and aarch64
PATH_BENEATH = 1
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
INSTRUCTION_BYTES = 8
NOT_FOUND = 127

LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    rules, program = json.loads(sys.argv[1]), sys.argv[2:]
    os.umask(0o077)  # which the filter keeps
    ruleset = call("syscall", CREATE_RULESET, attribute := struct.pack("QQQ", *rules["handled"]), len(attribute), 0)
    own = f"/proc/{os.getpid()}"
    for path, rights in rules["paths"]:
        try:
            descriptor = os.open(path.replace("/proc/self", own), os.O_PATH)
        except FileNotFoundError:
            continue
        call("syscall", ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("syscall", RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    code = bytes.fromhex(rules["system_calls"])
    held = ctypes.create_string_buffer(code, len(code))
    call(
        "prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
        struct.pack("HP", len(code) // INSTRUCTION_BYTES, ctypes.addressof(held)),
    )  # fmt: skip
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        os._exit(NOT_FOUND)


def call(name: str, *arguments: object) -> int:
    """Call a libc function; on failure end this process with one line on stderr."""
    result: int = getattr(LIBC, name)(*arguments)
    if result < 0:
        sys.exit(f"landlock: {name} {arguments[0]}: {os.strerror(ctypes.get_errno())}")
    return result


if __name__ == "__main__":
    main()
