"""What a wheel installs: the library, the commands with their configuration, and nothing for other programs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from conftest import PROJECT

pytestmark = pytest.mark.command

UV = Path(sys.executable).parent / "uv"
SMALL = ("net.module.widths=[4,4,4,6]", "logger=csv")
CHEAP = (
    "layers=[fc1]",
    "images=val",
    "evaluation.nulls=[]",
    "evaluation.intervals=false",
    "figure=[]",
    "pictures=null",
    "logger=csv",
)


def says(*command, cwd, code=0):
    """What a command prints that is run as if nobody had heard of the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is built, so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    generated = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, folder / name, symlinks=True, ignore=generated)
    return folder


@pytest.fixture(scope="module")
def wheel(source):
    says(UV, "build", "--wheel", "--offline", "--no-build-isolation", "--python", sys.executable, source, cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


def environment_with(folder, *what):
    """A fresh environment that has every package of this one but ours, which is installed there; its bin folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(says(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # whose own .pth files do not count here
    no_network = ("--offline", "--no-index", "--no-deps", "--no-build-isolation")
    says(UV, "pip", "install", "--quiet", "--python", python, *no_network, *what, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return environment_with(tmp_path_factory.mktemp("an environment"), wheel)


def test_a_wheel_has_the_whole_configuration_and_no_scripts(wheel):
    there = set(zipfile.ZipFile(wheel).namelist())
    conf = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "conf").rglob("*.yaml")}
    assert {name.removeprefix("convergent/") for name in there if name.endswith(".yaml")} == conf
    assert {name.partition("/")[0] for name in there if "dist-info" not in name} == {"convergent", "hydra_plugins"}


def test_the_commands_of_a_wheel_do_everything_in_the_current_folder(installed, tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    convergent = installed / "convergent"
    output = says(convergent, "train", "-m", "seed=0,1", "epochs=1", *SMALL, cwd=folder)
    assert output.count(": val/acc_top1") == 2
    two_processes = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    output = says(convergent, "align", "-m", "method=matching", *CHEAP, *two_processes, cwd=folder)
    result = folder / "outputs" / "align" / "digits-convnet"
    assert f"in {result}" in output
    assert [path.name for path in result.glob("*/done")] == ["done"]
    assert "  convergent report name=paper\n" in says(convergent, "report", "--help", cwd=folder)


def test_a_sentence_of_a_wheel_names_its_own_commands(installed, tmp_path):
    output = says(installed / "convergent", "align", "name=nothing", cwd=tmp_path, code=1)
    assert "convergent train -m seed=0,1,2,3" in output
    assert "python src" not in output


def test_the_library_of_a_wheel_is_its_own(installed, tmp_path):
    code = "import convergent; print(convergent.__file__)"
    assert str(installed.parent) in says(installed / "python", "-c", code, cwd=tmp_path)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_command_alone_says_what_there_is(installed, tmp_path, arguments):
    output = says(installed / "convergent", *arguments, cwd=tmp_path)
    assert all(f"convergent {name}" in output for name in ("train", "align", "merge", "report", "prepare"))
    assert output.count("\n") <= 12


def test_an_unknown_command_is_answered_with_those_that_are(installed, tmp_path):
    from importlib.metadata import version

    output = says(installed / "convergent", "nonsense", cwd=tmp_path, code=1)
    assert output.startswith("error: There is no command nonsense; there are train, align, merge, report, prepare")
    assert output.count("\n") == 1
    assert says(installed / "convergent", "--version", cwd=tmp_path) == f"convergent {version('convergent')}\n"


def test_an_editable_install_has_the_commands_and_the_checkouts_root(source, tmp_path):
    convergent = environment_with(tmp_path / "environment", "--editable", source) / "convergent"
    assert f"\nroot: {source}\n" in says(convergent, "train", "--cfg", "job", "--resolve", cwd=tmp_path)


APP = """
import sys, hydra
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
@hydra.main(version_base="1.3", config_path=None)
def main(config):
    print("launchers", [of.__name__ for of in Plugins.instance().discover() if of.__name__ == "ProcessLauncher"])
    print("resolver", OmegaConf.has_resolver("project_root"))
    print("loaded", [name for name in ("convergent", "torch", "pytorch_lightning") if name in sys.modules])
main()
"""


def test_another_program_with_hydra_does_not_notice(installed, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    output = says(
        installed / "python", tmp_path / "app.py", "hydra.run.dir=.", "hydra.output_subdir=null", cwd=tmp_path
    )
    assert output == "launchers ['ProcessLauncher']\nresolver False\nloaded []\n"


def test_the_root_goes_along_to_a_job_of_a_cluster(installed, tmp_path):
    """Hydra pickles the callbacks, and asks for the folder of the job before anything else of ours is imported there."""
    send = "import pickle; from convergent.cli.sweep import CheckSweep; print(pickle.dumps(CheckSweep()).hex())"
    receive = (
        "import pickle, sys; from omegaconf import OmegaConf; pickle.loads(bytes.fromhex(sys.argv[1]));"
        "print(OmegaConf.create({'root': '${project_root:}'}).root)"
    )
    sent = says(installed / "python", "-c", send, cwd=tmp_path)
    assert says(installed / "python", "-c", receive, sent, cwd=tmp_path) == f"{tmp_path}\n"
