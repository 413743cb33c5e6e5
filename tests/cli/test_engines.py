"""`leakrt engines`: what the cache holds, what of it is broken or foreign, and what comes in from elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from engine_records import KEY, record_of

from leakrt.engines.cache.cache import EngineCache

ANYWHERE = replace(KEY, flavour="tensorrt-rtx", version="1.0", device=replace(KEY.device, name="", capability="",
                   multiprocessors=0, driver=""), targets=("8.6", "12.0"))  # fmt: skip


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Makes this a machine with folders and libraries of its own: flavour to the version that is installed."""
    from leakrt.engines import carry
    from leakrt.engines.library import installed
    from leakrt.engines.library.rtx import TensorRTRTX
    from leakrt.engines.library.tensorrt10 import TensorRT10

    dialects = {"tensorrt": TensorRT10, "tensorrt_rtx": TensorRTRTX}

    def become(name: str, **versions: str):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name / "cache"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / name / "config"))
        flavours = [dialects[name](None, version) for name, version in versions.items()]
        for module in (installed, carry):
            monkeypatch.setattr(module, "installed_flavours", lambda: flavours)
        return tmp_path / name

    become("here")
    return become


@pytest.fixture
def root(tmp_path):
    return tmp_path / "here" / "cache" / "leakrt" / "engines"


@pytest.fixture
def engines(root):
    """Two engines of 40 bytes in the cache, for TensorRT 10.3.0."""
    cache, records = EngineCache(root, 8 << 30), []
    for graph in ("vae_encoder", "leak_encoder"):
        data = graph.encode().ljust(40)
        records.append(record_of(data, key=replace(KEY, graph=graph)))
        cache.store(records[-1], data)
    return [cache.path(record) for record in records]


def test_an_empty_cache_is_reported_with_its_place(leakrt, root):
    done = leakrt("engines", "list")
    assert (done.code, done.out) == (0, "")
    assert done.err == f"leakrt: 0 engines, 0 B of 8.0 GiB, in {root}\n"
    assert leakrt("engines", "prune").out == "removed 0 engines and 0 leftovers, 0 B freed\n"


def test_list_has_a_row_for_each_engine_and_json_a_line(leakrt, engines):
    done = leakrt("engines", "list")
    assert done.code == 0
    header, *rows = done.lines
    assert header.split() == ["engine", "graph", "precision", "batch", "for", "with", "size", "state"]
    assert {row.split()[1] for row in rows} == {"vae_encoder", "leak_encoder"}
    assert all("NVIDIA A" in row and "tensorrt 10.3.0" in row and row.endswith("  ok") for row in rows)
    assert "2 engines, 80 B of 8.0 GiB" in done.err
    listed = [json.loads(line) for line in leakrt("engines", "list", "--json").lines]
    assert {entry["path"] for entry in listed} == set(map(str, engines))
    assert [(e["bytes"], e["problem"], e["misfit"], e["key"]["batches"]) for e in listed] == [(40, "", "", [1, 4])] * 2


def test_engines_of_another_major_version_say_so_and_are_no_damage(leakrt, engines, machine):
    machine("here", tensorrt="11.4.0")
    done = leakrt("engines", "verify")
    assert done.code == 0
    assert done.out.count("not for this machine: it was built with tensorrt 10.3.0, and 11.4.0 is installed") == 2


def test_engines_for_another_gpu_say_so(leakrt, engines, machine, monkeypatch):
    from leakrt.engines.build import build
    from leakrt.engines.library.device import TargetDevice

    machine("here", tensorrt="10.3.0")
    monkeypatch.setattr(
        build,
        "list_devices",
        lambda: [TargetDevice(name="NVIDIA B", capability="9.0", multiprocessors=132, driver="580.1")],
    )
    out = leakrt("engines", "list").out
    assert (
        out.count("it was built on NVIDIA A (8.9, 128 multiprocessors, driver 550.1), and this is NVIDIA B (9.0") == 2
    )
    assert [json.loads(line)["misfit"] != "" for line in leakrt("engines", "list", "--json").lines] == [True, True]


def test_an_engine_cut_off_in_the_middle_is_seen_by_list_and_pruned(leakrt, engines):
    engines[0].write_bytes(engines[0].read_bytes()[:20])
    assert "it is truncated or changed (its size differs)" in leakrt("engines", "list").out
    assert leakrt("engines", "list").code == 0
    assert leakrt("engines", "verify").code == 1
    pruned = json.loads(leakrt("engines", "prune", "--json").out)
    assert (pruned["engines"], pruned["leftovers"], pruned["busy"]) == (1, 0, 0)
    assert pruned["freed"] > 20
    assert leakrt("engines", "verify").code == 0
    assert not engines[0].parent.exists()


def test_a_flipped_bit_is_seen_by_verify(leakrt, engines):
    data = bytearray(engines[1].read_bytes())
    data[7] ^= 4
    engines[1].write_bytes(data)
    assert "SHA-256 differs" not in leakrt("engines", "list").out
    done = leakrt("engines", "verify")
    assert (done.code, done.out.count("is truncated or changed (SHA-256 differs)")) == (1, 1)


def test_prune_keeps_the_size_it_is_given(leakrt, engines):
    assert leakrt("engines", "prune", "--max-size", "1").out.startswith("removed 0 engines")
    assert leakrt("engines", "prune", "--max-size", "5e-8").out.startswith("removed 1 engines")
    assert leakrt("engines", "prune", "--max-size", "0").out.startswith("removed 1 engines")
    assert leakrt("engines", "list").out == ""


def test_what_a_kill_left_behind_is_swept_up(leakrt, engines, root):
    (root / ("f" * 32)).mkdir()
    (root / ("f" * 32) / ".vae_encoder.fp16.engine.123.part").write_bytes(b"half")
    assert leakrt("engines", "prune").out.startswith("removed 0 engines and 1 leftovers, 4 B freed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show",), "engines show: unknown action; choose one of: list, prune, verify, add"),
        (("add",), "engines add: FOLDER is missing"),
        (("list", "folder"), "engines list: takes no FOLDER"),
        (("list", "--max-size", "1"), "engines list: --max-size is only for prune"),
        (("verify", "--key", "0" * 64), "engines verify: --key is only for add"),
        (("prune", "--unsigned"), "engines prune: --unsigned is only for add"),
        (("prune", "--max-size", "-1"), "--max-size -1: not a size in GiB; give a number of 0 or more"),
        (("prune", "--max-size", "nan"), "--max-size nan: not a size in GiB"),
        (("prune", "--max-size", "inf"), "--max-size inf: not a size in GiB"),
        (
            ("add", "folder", "--key", "abc"),
            "--key abc: not a public key; give the 64 hex digits that `leakrt build --out` prints",
        ),
    ],
)
def test_wrong_usage_is_one_line(leakrt, arguments, words):
    done = leakrt("engines", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert words in done.err


@pytest.mark.parametrize("limit", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_named(leakrt, monkeypatch, limit):
    monkeypatch.setenv("LEAKRT_ENGINE_CACHE_GIB", limit)
    done = leakrt("engines", "list")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"$LEAKRT_ENGINE_CACHE_GIB='{limit}' is " in done.err


def test_a_damaged_index_is_one_line_with_what_mends_it(leakrt, engines, root):
    (root / "index.json").write_text("{}")
    done = leakrt("engines", "list")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "index.json is damaged (unknown format); run: leakrt engines prune" in done.err
    assert leakrt("engines", "prune").code == 0
    assert leakrt("engines", "list").code == 0


def test_an_index_that_others_may_write_is_refused(leakrt, engines, root):
    (root / "index.json").chmod(0o666)
    done = leakrt("engines", "list")
    assert done.code == 1
    assert "is not trusted: other users can write it; run: chmod -R go-w" in done.err


@pytest.fixture
def carried(tmp_path, machine):
    """A folder with one engine for 8.6 and 12.0, signed on a server, and the server's public key."""
    pytest.importorskip("cryptography", reason="signatures need cryptography (extra rtx)")
    from leakrt.engines.cache.signing import Signer
    from leakrt.engines.carry import write_folder

    server = machine("server", tensorrt_rtx="1.0")
    cache, signer = EngineCache(server / "cache" / "leakrt" / "engines", 8 << 30), Signer.own()
    record = record_of(b"portable engine", key=ANYWHERE)
    cache.store(record, b"portable engine")
    write_folder(tmp_path / "carried", [record], cache, signer=signer)
    machine("here", tensorrt_rtx="1.0")
    return tmp_path / "carried", signer.public_key


def test_a_folder_from_a_server_is_trusted_once_by_its_key_and_then_known(leakrt, carried):
    folder, key = carried
    refused = leakrt("engines", "add", folder)
    assert (refused.code, leakrt("engines", "list").out) == (1, "")
    assert f"if this is the key of your build machine, run: leakrt engines add {folder} --key {key}" in refused.err
    added = leakrt("engines", "add", folder, "--key", key)
    assert (added.code, added.out.split()[0]) == (0, "vae_encoder.fp16.engine")
    assert leakrt("engines", "verify").out.count("  ok") == 1
    assert leakrt("engines", "prune", "--max-size", "0").code == 0
    again = leakrt("engines", "add", folder, "--json")
    assert (again.code, json.loads(again.out)["key"]["targets"]) == (0, ["8.6", "12.0"])


def test_another_servers_key_opens_nothing_and_is_not_remembered(leakrt, carried, tmp_path):
    folder, _ = carried
    done = leakrt("engines", "add", folder, "--key", "a" * 64)
    assert (done.code, "which is not a trusted key" in done.err) == (1, True)
    assert not (tmp_path / "here" / "config" / "leakrt" / "trusted_keys").exists()


def test_an_engine_cut_off_on_the_way_installs_nothing(leakrt, carried):
    folder, key = carried
    engine = folder / "vae_encoder.fp16.engine"
    engine.write_bytes(engine.read_bytes()[:7])
    done = leakrt("engines", "add", folder, "--key", key)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "vae_encoder.fp16.engine is truncated or changed (SHA-256 differs); copy the folder again" in done.err
    assert leakrt("engines", "list").out == ""


def test_an_engine_of_another_version_is_refused_before_it_is_taken(leakrt, carried, machine):
    folder, key = carried
    machine("here", tensorrt_rtx="1.7.1")
    done = leakrt("engines", "add", folder, "--key", key)
    assert (done.code, leakrt("engines", "list").out) == (1, "")
    assert "can't run on this machine: it was built with tensorrt-rtx 1.0, and 1.7.1 is installed" in done.err


def test_an_engine_for_other_gpus_is_refused_before_it_is_taken(leakrt, carried, monkeypatch):
    from leakrt.engines.build import build
    from leakrt.engines.library.device import TargetDevice

    folder, key = carried
    monkeypatch.setattr(
        build,
        "list_devices",
        lambda: [TargetDevice(name="NVIDIA T4", capability="7.5", multiprocessors=40, driver="580.1")],
    )
    done = leakrt("engines", "add", folder, "--key", key)
    assert (done.code, leakrt("engines", "list").out) == (1, "")
    assert "it is for compute capability 8.6, 12.0, and NVIDIA T4 has 7.5; rebuild it for this machine" in done.err


def test_an_engine_for_later_gpus_is_reported_on_one_that_its_library_does_not_run_on(monkeypatch):
    """One that names no capability is for 8.0 and later, but TensorRT-RTX itself runs on no 9.0."""
    from dataclasses import replace

    from leakrt.engines.build import build
    from leakrt.engines.library.device import NO_DEVICE, TargetDevice
    from leakrt.engines.library.rtx import TensorRTRTX

    key = replace(KEY, flavour="tensorrt-rtx", version="1.7.1", device=NO_DEVICE, targets=("default",))
    record = record_of(b"engine", key=key)
    for capability, words in (("9.0", "does not run on compute capability 9.0; for 9.0 (H100 and H200)"), ("8.9", "")):
        monkeypatch.setattr(
            build,
            "list_devices",
            lambda c=capability: [TargetDevice(name="NVIDIA X", capability=c, multiprocessors=100, driver="580.1")],
        )
        reason = next(build.reasons_unusable(record, [TensorRTRTX(None, "1.7.1")]), "")
        assert (words in reason) if words else reason == ""


def test_a_folder_that_nobody_signed_is_taken_only_by_name(leakrt, carried):
    folder, _ = carried
    manifest = json.loads((folder / "engines.json").read_text())
    (folder / "engines.json").write_text(json.dumps({**manifest, "signer": ""}))
    (folder / "engines.sig").unlink()
    assert "is not signed, and engines are machine code; use --unsigned" in leakrt("engines", "add", folder).err
    assert leakrt("engines", "add", folder, "--unsigned").code == 0


def test_evicted_engines_are_reported(leakrt, carried, monkeypatch, root):
    folder, key = carried
    data = b"x" * 64
    EngineCache(root, 8 << 30).store(record_of(data), data)
    monkeypatch.setenv("LEAKRT_ENGINE_CACHE_GIB", str(70 / 2**30))
    done = leakrt("engines", "add", folder, "--key", key)
    assert done.code == 0
    assert "leakrt: evicted from the cache: vae_encoder.fp16.engine (" in done.err
