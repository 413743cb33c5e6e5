import numpy as np
import pytest
from bundles import TINY_SPEC, noise_image, vae_encoder

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from PIL import Image

from leakrt.calibration.int8.refit import RefitConfig
from leakrt.calibration.int8.refitting import Refitter, Teacher
from leakrt.core.graphs import leak_encoder_graph
from leakrt.core.progress import silent
from leakrt.export.sessions import GraphSession
from leakrt.train.config import TrainConfig
from leakrt.train.data import list_data
from leakrt.train.leak_encoder import LeakEncoder


@pytest.fixture
def listing(tmp_path):
    for split, count in (("train", 6), ("val", 2)):
        for name in TINY_SPEC.class_names:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(noise_image(i)).save(tmp_path / split / name / f"{i}.png")
    return list_data(tmp_path)


@pytest.fixture
def refitter(tmp_path):
    def make(**recipe):
        config = TrainConfig(widths=(4, 6), batch_size=4)
        torch.manual_seed(0)
        teacher = Teacher(LeakEncoder(TINY_SPEC, config), config)
        return Refitter(teacher, RefitConfig(**recipe), tmp_path / "cache", bundle=tmp_path / "bundle")

    return make


def test_fp32_latents_are_computed_once_and_int8_ones_for_each_attempt(listing, refitter):
    tasks = []
    work, fp32 = refitter(), vae_encoder(TINY_SPEC, seed=0)
    for seed in (1, 2):
        work.refit(
            TINY_SPEC,
            listing,
            fp32,
            int8=vae_encoder(TINY_SPEC, seed=seed),
            threads=2,
            progress=lambda *step: tasks.append(step),
        )
    last = [task for task, done, total in tasks if done == total and "latents" in task]
    assert last == [f"{p} latents of training images" for p in ("fp32", "int8", "int8")]


def test_the_recipe_limits_the_number_of_images(listing, refitter):
    vae = vae_encoder(TINY_SPEC, seed=0)
    _, outputs = refitter(images=7).refit(TINY_SPEC, listing, vae, int8=vae, threads=1, progress=silent)
    assert len(outputs.scores) == 7


def test_threads_do_not_change_the_student_and_torch_keeps_its_own(listing, refitter):
    fp32, other = vae_encoder(TINY_SPEC, seed=0), vae_encoder(TINY_SPEC, seed=1)
    torch.set_num_threads(2)
    graphs = {
        refitter().refit(TINY_SPEC, listing, fp32, int8=other, threads=threads, progress=silent)[0]
        for threads in (1, 2)
    }
    assert len(graphs) == 1
    assert torch.get_num_threads() == 2


def test_a_refit_gives_a_graph_that_is_another_than_the_teacher_and_the_same_twice(listing, tmp_path):
    config = TrainConfig(widths=(4, 6), batch_size=4)
    torch.manual_seed(0)
    teacher = LeakEncoder(TINY_SPEC, config)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    fp32, other = vae_encoder(TINY_SPEC, seed=0), vae_encoder(TINY_SPEC, seed=1)

    def refitted():
        work = Refitter(Teacher(teacher, config), RefitConfig(epochs=2), tmp_path / "cache", bundle=tmp_path / "bundle")
        return work.refit(TINY_SPEC, listing, fp32, int8=other, threads=1, progress=silent)

    (graph, outputs), (again, _) = refitted(), refitted()
    assert graph == again
    assert outputs.scores.shape == (18, len(TINY_SPEC.class_names))
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    noised = np.random.default_rng(0).standard_normal((2, 3, *TINY_SPEC.latent_shape)).astype(np.float32)
    student = GraphSession(leak_encoder_graph(TINY_SPEC), graph, 1).run(noised)[0]
    with torch.inference_mode():
        taught = teacher.eval()(torch.from_numpy(noised))[0].numpy()
    assert np.abs(student - taught).max() > 1e-4
