"""The most memory that was resident, of one program alone: `getrusage` would count what its parent had."""


def peak_kib(process: str = "self") -> int:
    with open("/proc/%s/status" % process) as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
