"""Facts about this machine, and about one whose files are below another root."""

from __future__ import annotations

import pytest
from machines import ORIN_NANO, RELEASES, put

from leakrt.runtime.doctor.facts import gather, read_distribution


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_files_below_the_root_identify_a_jetson(tmp_path):
    root = put(tmp_path, {
        "etc/nv_tegra_release": RELEASES["36.3.0"],
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\nVERSION="22.04.4 LTS"\n'
        "VERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\n",
        "proc/device-tree/model": ORIN_NANO,
        "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
    })  # fmt: skip
    facts = gather(root)
    assert (facts.jetson.linux, facts.distribution, facts.bindings) == ("36.3.0", "ubuntu2204", ("3.10",))
    assert not facts.container


def test_this_machine_reports_a_driver_or_a_problem():
    facts = gather()
    assert bool(facts.gpus) != bool(facts.driver.problem)
    assert facts.cache.engines == 0


def test_a_container_is_recognised_by_its_mark(tmp_path):
    assert gather(put(tmp_path, {".dockerenv": ""})).container


@pytest.mark.parametrize(
    ("text", "name"),
    [('ID=ubuntu\nVERSION_ID="24.04"\n', "ubuntu2404"), ('ID=debian\nVERSION_ID="12"\n', "debian12"),
     ('ID="rhel"\nVERSION_ID="9.4"\n', ""), ("ID=arch\n", ""), ("", "")],
)  # fmt: skip
def test_the_distribution_has_its_name_in_nvidias_repositories(tmp_path, text, name):
    assert read_distribution(put(tmp_path, {"etc/os-release": text})) == name


def test_a_system_without_os_release_has_no_distribution(tmp_path):
    assert read_distribution(tmp_path) == ""
