"""The engine cache: only verified engines are loaded, and its size stays within the limit."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from engine_records import GPU, KEY, record_of

from leakrt.core.errors import EngineError, StorageError, UsageError
from leakrt.core.progress import silent
from leakrt.engines.cache.key import EngineKey
from leakrt.engines.cache.record import EngineRecord


def store(cache, data: bytes, key: EngineKey = KEY, used: float = 0.0) -> EngineRecord:
    from leakrt.engines.cache.index import engine_lock

    record = record_of(data, key=key)
    with engine_lock(cache.root, key.digest, silent, waiting=""):
        cache.store(record, data)
    if used:
        os.utime(cache.path(record).with_suffix(".json"), (used, used))
    return record


def keys(count: int) -> list[EngineKey]:
    return [replace(KEY, workspace=i) for i in range(count)]


def test_what_is_stored_is_read_back(cache):
    record = store(cache, b"engine")
    assert cache.read(record) == b"engine"
    assert cache.get(KEY) == record
    assert [e.record for e in cache.engines()] == [record]


def test_the_json_file_of_an_engine_has_its_full_key(cache):
    record = store(cache, b"engine")
    body = json.loads(cache.path(record).with_suffix(".json").read_text())
    assert EngineKey.from_json(body["key"]) == KEY


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.write_bytes(b"engin"), "its size differs"),
        (lambda p: p.unlink(), "a file is missing"),
        (lambda p: p.with_suffix(".json").write_text("{}"), "its JSON file was changed"),
        (lambda p: p.with_suffix(".json").unlink(), "can't be read"),
    ],
    ids=["cut short", "gone", "other JSON", "no JSON"],
)
def test_a_damaged_engine_is_reported_and_pruned(cache, damage, words):
    record = store(cache, b"engine")
    damage(cache.path(record))
    with pytest.raises(EngineError, match=words):
        cache.get(KEY)
    assert words in cache.engines()[0].problem
    assert cache.prune(cache.limit).engines == 1
    assert cache.engines() == []
    assert not cache.path(record).parent.exists()


def test_verify_hashes_every_byte(cache):
    record = store(cache, b"engine")
    cache.path(record).write_bytes(b"enginX")
    assert not cache.engines()[0].problem
    assert "SHA-256 differs" in cache.verify()[0].problem
    with pytest.raises(EngineError, match="SHA-256 differs"):
        cache.read(record)


def test_an_engine_missing_from_the_index_is_not_loaded(cache):
    record = record_of(b"foreign")
    folder = cache.root / KEY.digest
    folder.mkdir(parents=True)
    (folder / record.file).write_bytes(b"foreign")
    (folder / record.json_file).write_bytes(record.to_bytes())
    assert cache.get(KEY) is None
    with pytest.raises(EngineError, match="not in the index of the cache"):
        cache.read(record)
    assert cache.prune(cache.limit).leftovers == 1
    assert not folder.exists()


def test_an_entry_renamed_to_another_key_is_refused(cache):
    store(cache, b"engine")
    other = replace(KEY, device=replace(GPU, name="NVIDIA B"))
    (cache.root / KEY.digest).rename(cache.root / other.digest)
    index = json.loads((cache.root / "index.json").read_text())
    index["engines"][other.digest] = index["engines"].pop(KEY.digest)
    (cache.root / "index.json").write_text(json.dumps(index))
    with pytest.raises(EngineError, match="belongs to another engine"):
        cache.get(other)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2}', '{"format": 1, "engines": {"../x": {}}, "timing": {}}', "[" * 100000]
)
def test_prune_replaces_a_damaged_index(cache, text):
    store(cache, b"engine")
    (cache.root / "index.json").write_text(text)
    with pytest.raises(EngineError, match="is damaged"):
        cache.get(KEY)
    cache.prune(cache.limit)
    assert cache.engines() == []
    assert cache.read(store(cache, b"engine")) == b"engine"


def test_the_least_recently_used_engine_is_evicted_first(cache):
    cache.limit = 25
    old, middle, new = keys(3)
    for age, key in enumerate((old, middle)):
        store(cache, b"0123456789", key, used=1000.0 + age)
    cache.read(record_of(b"0123456789", key=old))  # now the most recently used
    store(cache, b"0123456789", new)
    assert {e.digest for e in cache.engines()} == {old.digest, new.digest}


def test_an_engine_larger_than_the_limit_evicts_all_others(cache):
    cache.limit = 5
    for key in keys(2):
        store(cache, b"0123456789", key)
    assert [e.digest for e in cache.engines()] == [keys(2)[1].digest]


def test_engines_stored_together_do_not_evict_each_other(cache):
    cache.limit = 5
    first, second, other = keys(3)
    store(cache, b"0123456789", other, used=1000.0)
    store(cache, b"0123456789", first)
    record = record_of(b"abcdefghij", key=second)
    assert cache.store(record, b"abcdefghij", together={first.digest, second.digest}) == ()
    assert {e.digest for e in cache.engines()} == {first.digest, second.digest}


@pytest.mark.parametrize("known", [True, False])
def test_prune_removes_a_symlinked_engine_folder_but_not_its_target(cache, tmp_path, known):
    record = store(cache, b"engine")
    place, elsewhere = cache.path(record).parent, tmp_path / "elsewhere"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    if not known:
        cache.discard(KEY.digest)
        place.symlink_to(tmp_path / "nowhere")
    cache.prune(0)
    assert not place.is_symlink()
    assert (elsewhere / record.file).read_bytes() == b"engine"
    assert cache.read(store(cache, b"engine")) == b"engine"
    assert not place.is_symlink()


def test_prune_respects_its_size_limit(cache):
    for age, key in enumerate(keys(3)):
        store(cache, b"0123456789", key, used=1000.0 + age)
    assert cache.prune(15).engines == 2
    assert [e.digest for e in cache.engines()] == [keys(3)[2].digest]


def test_prune_skips_an_engine_that_another_process_builds(cache):
    from leakrt.engines.cache.index import engine_lock

    folder = cache.root / KEY.digest
    folder.mkdir(parents=True)
    with engine_lock(cache.root, KEY.digest, silent, waiting=""):
        (folder / ".vae_encoder.fp16.engine.1.part").write_bytes(b"half")
        assert cache.prune(cache.limit).busy == 1
        assert folder.exists()
    assert cache.prune(cache.limit).leftovers == 1
    assert not folder.exists()


def test_prune_skips_an_engine_whose_pair_is_still_being_built(cache):
    from leakrt.engines.cache.index import engine_locks

    first, second = keys(2)
    record = record_of(b"engine", key=first)
    with engine_locks(cache.root, {first.digest: "vae_encoder", second.digest: "leak_encoder"}, silent):
        cache.store(record, b"engine")
        pruned = cache.prune(0)
        assert (pruned.engines, pruned.leftovers, pruned.busy) == (0, 0, 1)
        assert cache.read(record) == b"engine"
    assert cache.prune(0).engines == 1


def just_before_a_removal(monkeypatch, work):
    """Run `work` after `prune` has listed the engines, before it acquires the first lock."""
    from leakrt.engines.cache import cache as module

    take, left = module.try_engine_lock, [work]

    def late(root, digest):
        if left:
            left.pop()()
        return take(root, digest)

    monkeypatch.setattr(module, "try_engine_lock", late)


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_prune_keeps_an_engine_rebuilt_since_it_was_listed(cache, monkeypatch, limit):
    record = store(cache, b"engine", used=1000.0)
    if limit:
        cache.path(record).write_bytes(b"broken")
    just_before_a_removal(monkeypatch, lambda: store(cache, b"engine"))
    assert cache.prune(limit).engines == 0
    assert cache.read(record) == b"engine"


def test_prune_keeps_an_engine_used_since_it_was_listed(cache, monkeypatch):
    record = store(cache, b"engine", used=1000.0)
    just_before_a_removal(monkeypatch, lambda: cache.read(record))
    assert cache.prune(0).engines == 0
    assert cache.prune(0).engines == 1


def test_prune_keeps_an_engine_stored_since_its_empty_folder_was_listed(cache, monkeypatch):
    (cache.root / KEY.digest).mkdir(parents=True)
    just_before_a_removal(monkeypatch, lambda: store(cache, b"engine"))
    assert cache.prune(1 << 20).leftovers == 0
    assert cache.read(record_of(b"engine")) == b"engine"


def test_prune_ignores_files_that_disappear(cache):
    store(cache, b"engine")
    (cache.root / "timing").mkdir()
    gone = cache.root / "timing" / ".x.timing.7.part"
    gone.symlink_to("nowhere")  # a dangling link: listed, but stat fails
    assert cache.prune(1 << 20).engines == 0


def test_a_full_disk_loses_no_stored_engine(cache, monkeypatch):
    import errno

    kept = store(cache, b"engine")
    other = replace(KEY, level=5)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        store(cache, b"other", other)
    monkeypatch.undo()
    assert cache.read(kept) == b"engine"
    assert not (cache.root / other.digest).exists()


def test_a_changed_timing_cache_is_not_returned(cache):
    cache.store_timing("x.timing", b"tactics")
    assert cache.timing("x.timing") == b"tactics"
    (cache.root / "timing" / "x.timing").write_bytes(b"others")
    assert cache.timing("x.timing") == b""
    assert cache.timing("missing") == b""


def test_the_limit_comes_from_the_environment(monkeypatch):
    from leakrt.engines.cache.cache import LIMIT_VARIABLE, default_cache

    monkeypatch.setenv(LIMIT_VARIABLE, "0.5")
    assert default_cache().limit == 1 << 29
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(UsageError, match="is not a number; give a size in GiB"):
        default_cache()
