"""A bundle's graph as a TensorRT engine, for TensorRT 8.5 to 11 and TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ....core.errors import BackendError, EngineError, ModelError
from ....core.graphs import GraphSpec
from ....engines.library.flavour import Flavour
from ....engines.library.logger import Messages, explain, listening, memory_wanted
from ....engines.library.names import ICudaEngine, IExecutionContext
from ..device_memory import OutOfMemoryError, Stream


class TensorRTEngine:
    """An `Engine`. Create, use and free it in the thread where the device's context is current.

    Execution contexts use scratch memory of the caller, so that both graphs and all batch sizes of a slot share it.
    """

    def __init__(self, flavour: Flavour, graph: GraphSpec, data: bytes, *, dla_core: int) -> None:
        """Deserialize bytes that `EngineCache.read` has verified; `dla_core` as in the engine's key.

        Raises EngineError if the library rejects them, ModelError if they are of another graph, OutOfMemoryError.
        """
        self._flavour, self._graph = flavour, graph
        self._messages = Messages()
        self._deserialize: Callable[[], ICudaEngine] = partial(self._make_engine, data, dla_core)
        first: ICudaEngine = self._deserialize()
        self._engines: list[ICudaEngine] = [first]
        self._used: list[set[int]] = [set()]  # per engine: profiles that have a context
        self.types: Mapping[str, str] = self._read_types(first)
        self._profiles = self._read_profiles(first)
        self.batches = tuple(sorted(self._profiles))
        if flavour.shares_profiles:
            self._deserialize = self._raise_freed  # releases the bytes

    def workspace(self, batch: int) -> int:
        """Return the scratch bytes of a run of this batch size. Raises BackendError if it has no profile."""
        return self._flavour.profile_memory(self._engines[0], self._profile(batch))

    def bind(self, batch: int, addresses: Mapping[str, int], workspace: int, *, stream: Stream) -> TensorRTBinding:
        """Create a context for the batch on these addresses. Raises ModelError, BackendError, OutOfMemoryError."""
        with listening(self._messages):
            return self._bind(batch, addresses, workspace, stream=stream)

    def free(self) -> None:
        """Free the engine. Free its bindings first. Idempotent."""
        self._engines, self._used = [], []
        self._deserialize = self._raise_freed

    def _bind(self, batch: int, addresses: Mapping[str, int], workspace: int, *, stream: Stream) -> TensorRTBinding:
        profile, size = self._profile(batch), self.workspace(batch)
        which = self._engine_for(profile)
        context: IExecutionContext = self._flavour.create_context(
            self._engines[which], profile, workspace, size=size, stream=stream.handle
        )
        if context is None:
            raise self._failure(f"creating a context for a batch of {batch} failed")
        self._used[which].add(profile)
        binding = TensorRTBinding(
            context, self._messages, self._failure, on_free=partial(self._used[which].discard, profile)
        )
        try:
            if not context.set_input_shape(self._graph.input.name, (batch, *self._graph.input.shape)):
                raise self._failure(f"a batch of {batch} was rejected")
            for name, address in addresses.items():
                if not context.set_tensor_address(name, address):
                    raise self._failure(f"the address of {name} was rejected")
            lacking = context.infer_shapes()
            if lacking:
                raise ModelError(
                    f"{self._graph.stem}: the engine also needs the shapes of {', '.join(map(str, lacking))}"
                )
        except BaseException:
            binding.free()
            raise
        return binding

    def _make_engine(self, data: bytes, dla_core: int) -> ICudaEngine:
        with listening(self._messages):
            engine: ICudaEngine = self._flavour.deserialize(data, dla_core=dla_core)
        if engine is None:
            self._raise_if_full()
            raise EngineError(
                f"{self._graph.stem}: {self._flavour} rejects the engine: {self._reason()}; rebuild the engine"
            )
        return engine

    def _raise_freed(self) -> ICudaEngine:
        raise BackendError(f"{self._graph.stem}: the engine was freed")

    def _engine_for(self, profile: int) -> int:
        """Return the index of an engine for another context. TensorRT 8 needs one engine per context of a profile."""
        if self._flavour.shares_profiles and self._engines:
            return 0
        for which, used in enumerate(self._used):
            if profile not in used:
                return which
        self._engines.append(self._deserialize())
        self._used.append(set())
        return len(self._engines) - 1

    def _profile(self, batch: int) -> int:
        if batch not in self._profiles:
            have = ", ".join(map(str, self.batches))
            raise BackendError(f"{self._graph.stem}: no optimization profile for a batch of {batch}; available: {have}")
        return self._profiles[batch]

    def _read_types(self, engine: ICudaEngine) -> dict[str, str]:
        """Return tensor name to element type. Raises ModelError if the tensors are not the graph's."""
        trt, graph = self._flavour.trt, self._graph
        known = {trt.DataType.FLOAT: "float32", trt.DataType.HALF: "float16"}
        found: dict[str, str] = {}
        modes: dict[object, list[tuple[str, tuple[int, ...]]]] = {}
        for index in range(engine.num_io_tensors):
            name = str(engine.get_tensor_name(index))
            dtype = engine.get_tensor_dtype(name)
            if dtype not in known:
                raise ModelError(f"{graph.stem}: {name} of the engine is {dtype}, expected float16 or float32")
            found[name] = known[dtype]
            modes.setdefault(engine.get_tensor_mode(name), []).append((name, tuple(engine.get_tensor_shape(name))))
        graph.check_declared(
            [(name, ("B", *shape[1:])) for name, shape in modes.get(trt.TensorIOMode.INPUT, [])],
            [(name, ("B", *shape[1:])) for name, shape in modes.get(trt.TensorIOMode.OUTPUT, [])],
        )
        return found

    def _read_profiles(self, engine: ICudaEngine) -> dict[int, int]:
        """Return batch size to the index of its profile."""
        name = self._graph.input.name
        ranges = [engine.get_tensor_profile_shape(name, i) for i in range(engine.num_optimization_profiles)]
        return {int(next(iter(largest))): i for i, (_, _, largest) in enumerate(ranges)}

    def _failure(self, what: str) -> ModelError | OutOfMemoryError:
        """Return the error to raise after a call of the library failed."""
        full = self._full()
        return full or ModelError(f"{self._graph.stem}: {what} by {self._flavour}: {self._reason()}")

    def _raise_if_full(self) -> None:
        full = self._full()
        if full is not None:
            raise full

    def _full(self) -> OutOfMemoryError | None:
        wanted = memory_wanted(self._messages.errors)
        if wanted < 0:
            return None
        self._messages.errors.clear()
        return OutOfMemoryError(wanted, f"the engine of {self._graph.stem}")

    def _reason(self) -> str:
        reason = explain(self._messages.errors)
        self._messages.errors.clear()  # the next failure must not report them
        return reason


class TensorRTBinding:
    """A `Binding`: an execution context."""

    def __init__(
        self,
        context: IExecutionContext,
        messages: Messages,
        failure: Callable[[str], Exception],
        *,
        on_free: Callable[[], None],
    ) -> None:
        self._context: IExecutionContext = context
        self._messages, self._failure, self._on_free = messages, failure, on_free

    def enqueue(self, stream: Stream) -> None:
        """Launch one run on a stream. Raises ModelError, OutOfMemoryError."""
        context: IExecutionContext = self._context
        with listening(self._messages):
            done = context.execute_async_v3(stream.handle)
        if not done:
            raise self._failure("a run was rejected")

    def free(self) -> None:
        """Free the context. Idempotent."""
        if self._context is not None:
            self._context = None
            self._on_free()
