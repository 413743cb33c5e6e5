"""Identifying a Jetson from its system files."""

from __future__ import annotations

import pytest
from machines import ORIN_NANO, RELEASES, THOR, THOR_COMPATIBLE, put

from leakrt.runtime.doctor.jetson import Jetson, parse_release, read_jetson


@pytest.mark.parametrize("version", RELEASES)
def test_the_version_is_read_from_every_release_file(version):
    assert parse_release(RELEASES[version]) == version


@pytest.mark.parametrize("text", ["", "# R36", "REVISION: 4.3", "Ubuntu 22.04", "# Rx (release), REVISION: 1.0"])
def test_another_file_has_no_version(text):
    assert parse_release(text) == ""


@pytest.mark.parametrize(
    ("version", "jetpack", "python", "too_old"),
    [("35.4.1", "5", "3.8", True), ("36.4.7", "6", "3.10", False), ("38.2.0", "7", "3.12", False),
     ("39.2.0", "7", "3.12", False)],
)  # fmt: skip
def test_the_jetpack_and_its_python_follow_from_jetson_linux(tmp_path, version, jetpack, python, too_old):
    found = read_jetson(put(tmp_path, {"etc/nv_tegra_release": RELEASES[version]}))
    assert found == Jetson("", version, jetpack)
    assert (found.python, found.too_old) == (python, too_old)


def test_the_installed_package_gives_the_exact_jetpack(tmp_path):
    status = (
        "Package: nvidia-jetpack-dev\nStatus: install ok installed\nVersion: 9.9+b1\n\n"
        "Package: nvidia-jetpack\nStatus: install ok installed\nPriority: standard\nInstalled-Size: 194\n"
        "Source: nvidia-jetpack (6.2.1)\nVersion: 6.2.1+b38\nDepends: nvidia-jetpack-runtime (= 6.2.1+b38)\n\n"
        "Package: zlib1g\nVersion: 1:1.2.11\n"
    )
    root = put(tmp_path, {"etc/nv_tegra_release": RELEASES["36.4.7"], "proc/device-tree/model": ORIN_NANO,
                          "var/lib/dpkg/status": status})  # fmt: skip
    assert str(read_jetson(root)) == (
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, JetPack 6.2.1 (Jetson Linux 36.4.7)"
    )


def test_another_package_is_ignored(tmp_path):
    status = "Package: nvidia-jetpack\nStatus: deinstall ok config-files\n\nPackage: zlib1g\nVersion: 1:1.2.11\n"
    root = put(tmp_path, {"etc/nv_tegra_release": RELEASES["39.2.0"], "var/lib/dpkg/status": status})
    assert read_jetson(root).jetpack == "7"


def test_a_container_without_a_release_file_is_recognised_by_its_device_tree(tmp_path):
    root = put(tmp_path, {"proc/device-tree/compatible": THOR_COMPATIBLE, "proc/device-tree/model": THOR})
    assert read_jetson(root) == Jetson("NVIDIA Jetson AGX Thor Developer Kit", "", "")
    assert "JetPack ? (Jetson Linux ?)" in str(read_jetson(root))


def test_a_future_release_has_an_unknown_jetpack(tmp_path):
    root = put(tmp_path, {"etc/nv_tegra_release": "# R44 (release), REVISION: 1.0, GCID: 1, BOARD: generic\n"})
    found = read_jetson(root)
    assert (found.linux, found.jetpack, found.python, found.too_old) == ("44.1.0", "", "", False)


def test_another_machine_is_not_a_jetson(tmp_path):
    assert read_jetson(tmp_path) is None
    assert read_jetson(put(tmp_path, {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"})) is None
