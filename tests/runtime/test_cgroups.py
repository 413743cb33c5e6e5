"""The CPU quota of a cgroup, read from file trees like those of the kernel."""

from __future__ import annotations

import pytest

from leakrt.runtime.cgroups import cpu_quota


class Machine:
    """/proc/self and /sys/fs/cgroup in a folder."""

    def __init__(self, root) -> None:
        self.proc, self.cgroups = root / "proc", root / "sys fs"
        self.proc.mkdir()
        self.mounts: list[str] = ["22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,cpu"]

    def process_in(self, *lines: str) -> None:
        (self.proc / "cgroup").write_text("\n".join(lines) + "\n")

    def mount(self, kind: str, where: str = "", root: str = "/", options: str = "rw") -> None:
        point = str(self.cgroups / where).replace(" ", r"\040")
        self.mounts.append(f"31 22 0:26 {root} {point} rw,nosuid shared:9 - {kind} {kind} {options}")

    def write(self, path: str, text: str) -> None:
        file = self.cgroups / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    @property
    def quota(self) -> float | None:
        (self.proc / "mountinfo").write_text("\n".join(self.mounts) + "\n")
        return cpu_quota(self.proc)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_version_2_is_read_in_the_cgroup_of_the_process(machine):
    machine.process_in("0::/system.slice/kiosk.service")
    machine.mount("cgroup2")
    machine.write("system.slice/kiosk.service/cpu.max", "150000 100000")
    machine.write("cpu.max", "max 100000")
    assert machine.quota == 1.5


def test_the_smallest_quota_of_all_parents_applies(machine):
    machine.process_in("0::/a/b/c")
    machine.mount("cgroup2")
    for path, text in {"a/b/c": "400000 100000", "a/b": "max 100000", "a": "50000 100000"}.items():
        machine.write(f"{path}/cpu.max", text)
    machine.write("other/cpu.max", "10000 100000")
    assert machine.quota == 0.5


def test_no_quota_returns_none(machine):
    machine.process_in("0::/a")
    machine.mount("cgroup2")
    assert machine.quota is None
    machine.write("a/cpu.max", "max 100000")
    assert machine.quota is None


def test_version_1_is_read_in_the_hierarchy_of_its_cpu_controller(machine):
    machine.process_in("12:memory:/m", "4:cpu,cpuacct:/docker/1a", "3:cpuset:/docker/1a", "1:name=systemd:/x")
    machine.mount("cgroup", "memory", options="rw,memory")
    machine.mount("cgroup", "cpuset", options="rw,cpuset")
    machine.mount("cgroup", "cpu,cpuacct", options="rw,cpu,cpuacct")
    machine.write("cpu,cpuacct/docker/1a/cpu.cfs_quota_us", "-1")
    machine.write("cpu,cpuacct/docker/1a/cpu.cfs_period_us", "100000")
    assert machine.quota is None
    machine.write("cpu,cpuacct/docker/cpu.cfs_quota_us", "250000")
    machine.write("cpu,cpuacct/docker/cpu.cfs_period_us", "100000")
    machine.write("cpuset/docker/1a/cpu.cfs_quota_us", "1")
    machine.write("cpuset/docker/1a/cpu.cfs_period_us", "100000")
    assert machine.quota == 2.5


def test_the_smaller_quota_of_both_versions_applies(machine):
    machine.process_in("4:cpu,cpuacct:/a", "0::/b")
    machine.mount("cgroup", "cpu", options="rw,cpu,cpuacct")
    machine.mount("cgroup2", "unified")
    machine.write("cpu/a/cpu.cfs_quota_us", "300000")
    machine.write("cpu/a/cpu.cfs_period_us", "100000")
    assert machine.quota == 3.0
    machine.write("unified/b/cpu.max", "200000 100000")
    assert machine.quota == 2.0


@pytest.mark.parametrize("path", ["/docker/1a", "/../../docker/1a", "/"])
def test_in_a_container_the_mounted_cgroup_is_its_own(machine, path):
    machine.process_in(f"0::{path}")
    machine.mount("cgroup2")
    machine.write("cpu.max", "100000 100000")
    assert machine.quota == 1.0


def test_a_mounted_subtree_starts_at_its_root(machine):
    machine.process_in("0::/docker/1a/inner")
    machine.mount("cgroup2", root="/docker/1a")
    machine.write("inner/cpu.max", "70000 100000")
    assert machine.quota == 0.7


@pytest.mark.parametrize("text", ["", "max", "x y", "1 0", "-5 100000", "100000 100000 7"])
def test_a_file_in_another_format_is_ignored(machine, text):
    machine.process_in("0::/", "garbage", "5:")
    machine.mount("cgroup2")
    machine.mounts += ["", "1 2 3 - cgroup2", " - "]
    machine.write("cpu.max", text)
    assert machine.quota is None


def test_other_systems_have_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "none") is None
