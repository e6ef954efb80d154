"""Builds an image with buildah and runs it with runc: no daemon, no registry of images.

The base image is made of Debian's packages by mmdebstrap, and takes the place of the official
Python image through the Dockerfile's build argument PYTHON_IMAGE.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Debian's release whose Python has the minor version of the Dockerfile's base image.
SUITE = "sid"
BASE_PACKAGES = ["python3", "python3-venv", "python-is-python3", "libpython3-dev"]
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_CONF = "/etc/pip.conf"
USER = 10001
CPUS = 0.2
MEMORY_MIB = 256
START_TIMEOUT_S = 60.0
# What a pod's grace period leaves behind its preStop.
STOP_TIMEOUT_S = 25.0


def missing() -> str | None:
    """Return why no image can be built on this machine, or None where one can."""
    if not sys.platform.startswith("linux"):
        return "containers need Linux"
    if os.geteuid() != 0:
        return "building and running an image without a daemon needs root"
    absent = [name for name in ("buildah", "runc", "mmdebstrap") if shutil.which(name) is None]
    if absent:
        return f"not on PATH: {', '.join(absent)}; tests/image/install-tools.sh installs them"
    if debian_mirror() is None:
        return "apt knows no Debian mirror to make the base image from"
    return None


def debian_mirror() -> str | None:
    """Return the address of the Debian mirror that this machine's apt uses."""
    form = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Identifier: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        origin, label, component, uri = line.split("|")
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return uri
    return None


def call(*command: str) -> str:
    """Return what a command writes.

    Raises:
        AssertionError: it failed; the message ends with what it wrote.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}"
    return done.stdout


def pip_settings() -> str:
    """Return how pip reaches its registry on this machine, as a pip.conf."""
    wanted = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "timeout")
    listed = call(sys.executable, "-m", "pip", "config", "list")
    settings = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rsplit(".", 1)[-1].replace("default-timeout", "timeout")
        # What lies on this machine's disk is not there in the build.
        words = [word for word in value.strip("'\"").split() if not word.startswith("file:")]
        if option in wanted and words:
            settings[option] = " ".join(words)
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


class Builder:
    """Images in a storage of their own.

    Args:
        folder: where the storage lies; `close` unmounts what lies there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buildah = ["buildah", "--root", f"{folder}/storage", "--runroot", f"{folder}/run"]

    def buildah(self, *arguments: str) -> str:
        """Run buildah on this storage."""
        return call(*self._buildah, *arguments).strip()

    def make_base(self, name: str) -> None:
        """Make an image of Debian with a Python, as the official Python image is one."""
        tar = self.folder / "base.tar"
        mirror = debian_mirror()
        assert mirror is not None
        excluded = [f"path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
        call(
            "mmdebstrap",
            "--mode=root",
            "--variant=apt",
            f"--include={','.join(BASE_PACKAGES)}",
            # A mirror of a past day has a release file that is no longer valid.
            '--aptopt=Acquire::Check-Valid-Until "false"',
            *(f"--dpkgopt={option}" for option in excluded),
            # As in the official image, whose own library is not compiled beforehand.
            """--customize-hook=find "$1/usr" -name __pycache__ -prune -exec rm -r {} +""",
            SUITE,
            str(tar),
            mirror,
        )
        container = self.buildah("from", "scratch")
        self.buildah("add", container, str(tar), "/")
        # There already when the build mounts this machine's over it, so that it adds no file.
        empty = self.folder / "empty"
        empty.touch()
        self.buildah("copy", container, str(empty), PIP_CONF)
        self.buildah("commit", "--rm", container, name)
        tar.unlink()

    def build(self, context: Path, name: str, arguments: dict[str, str]) -> float:
        """Build the Dockerfile of a folder; return the seconds that it took."""
        pip_conf = self.folder / "pip.conf"
        pip_conf.write_text(pip_settings())
        mounts = {pip_conf: PIP_CONF}
        if CA_BUNDLE.exists():
            mounts[CA_BUNDLE] = str(CA_BUNDLE)
        started = time.monotonic()
        self.buildah(
            "build",
            "--isolation=chroot",
            "--network=host",
            "--format=docker",  # OCI's own format has no HEALTHCHECK
            *(f"--volume={source}:{target}:ro" for source, target in mounts.items()),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            f"--tag={name}",
            str(context),
        )
        return time.monotonic() - started

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the configuration of an image, in Docker's form."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type=image", name))
        return found["Docker"]["config"]

    def mount(self, name: str) -> Path:
        """Return where the files of an image are."""
        return Path(self.buildah("mount", self.buildah("from", "--pull-never", name)))

    def close(self) -> None:
        """Unmount everything and remove the storage."""
        self.buildah("umount", "--all")
        self.buildah("rm", "--all")
        shutil.rmtree(self.folder)


class Container:
    """The image's command in a pod's limits: read-only, without capabilities, as USER.

    Args:
        folder: where its bundle and its log go.
        files: the files of the image, mounted.
        config: the image's configuration.
        environment: variables beside the image's own.
    """

    def __init__(
        self, folder: Path, files: Path, config: dict[str, Any], environment: dict[str, str]
    ) -> None:
        folder.mkdir(parents=True)
        self.name = f"portfolio-image-{os.getpid()}-{folder.name}"
        self.log = folder / "log"
        self.environment = environment
        self._folder = folder
        # As the kubelet makes an emptyDir in memory under fsGroup.
        self._runtime = folder / "runtime"
        self._runtime.mkdir()
        options = f"size=16m,mode=2777,gid={USER}"
        call("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._runtime))
        self._runc = ["runc", "--root", str(folder / "state")]
        self._bundle(files, config)
        self.process: subprocess.Popen[bytes] | None = None

    def _bundle(self, files: Path, config: dict[str, Any]) -> None:
        call("runc", "spec", "--bundle", str(self._folder))
        path = self._folder / "config.json"
        spec = json.loads(path.read_text())
        uid, gid = (int(number) for number in config["User"].split(":"))
        variables = dict(pair.split("=", 1) for pair in config["Env"]) | self.environment
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": uid, "gid": gid},
            "args": config["Cmd"],
            "env": [f"{name}={value}" for name, value in variables.items()],
            "cwd": config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
            "rlimits": [],
        }
        spec["root"] = {"path": str(files), "readonly": True}
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/dev/mqueue"]
        spec["mounts"].append(
            {
                "destination": "/run/portfolio",
                "type": "bind",
                "source": str(self._runtime),
                "options": ["bind", "rw", "nosuid", "nodev", "noexec"],
            }
        )
        # The host's network: MongoDB and the tests are on its loopback interface.
        linux = spec["linux"]
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "network"]
        linux["cgroupsPath"] = f"/{self.name}"
        linux["resources"] = linux.get("resources", {}) | {
            "cpu": {"period": 100_000, "quota": int(CPUS * 100_000)},
            "memory": {"limit": MEMORY_MIB * 2**20},
        }
        path.write_text(json.dumps(spec))

    @property
    def url(self) -> str:
        """Where the service answers."""
        return f"http://127.0.0.1:{self.environment['PORT']}"

    def start(self) -> None:
        """Start it; `wait` or `stop` takes it to its end."""
        command = [*self._runc, "run", "--bundle", str(self._folder), self.name]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the container, within its limits, as `kubectl exec` does."""
        return subprocess.run(
            [*self._runc, "exec", self.name, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def memory_mib(self) -> float:
        """Return its working set, as `kubectl top` counts it."""
        stats = json.loads(call(*self._runc, "events", "--stats", self.name))
        memory = stats["data"]["memory"]
        raw = memory["raw"]
        inactive = raw.get("total_inactive_file", raw.get("inactive_file", 0))
        return float(memory["usage"]["usage"] - inactive) / 2**20

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used since its start."""
        stats = json.loads(call(*self._runc, "events", "--stats", self.name))
        return float(stats["data"]["cpu"]["usage"]["total"]) / 1e9

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        call(*self._runc, "kill", self.name, name)

    def wait(self, timeout: float = STOP_TIMEOUT_S) -> int:
        """Return its exit status once it has ended."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End it, however it is."""
        if self.process is not None and self.process.poll() is None:
            subprocess.run([*self._runc, "kill", self.name, "KILL"], check=False)
            self.process.wait(30)
        subprocess.run(
            [*self._runc, "delete", "--force", self.name], check=False, capture_output=True
        )
        if self._runtime.is_mount():
            call("umount", str(self._runtime))
