"""The mesh of the demo: a control plane, and an application and a sidecar for every pod."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import httpx

from outrigger.demo.bookinfo import NAMESPACE, TRUST_DOMAIN, Pod, examples, free_ports, pods
from outrigger.demo.observe import connected_proxies, until
from outrigger.demo.processes import ProcessError, Processes

START_DEADLINE_S = 60.0
UNAVAILABLE_EVERY = 5
"""Over gRPC, every fifth call of ratings ends as UNAVAILABLE, and is retried."""
CONTROL_PLANE = "controlplane"


class Mesh:
    """All files are in `run_dir`: ``config/`` is the control plane's resource folder, ``state/`` has its root
    certificate and keys, ``pods/`` the files of the sidecars, and ``logs/`` the logs of all processes. With
    `grpc`, reviews calls ratings over gRPC."""

    def __init__(
        self, run_dir: Path, processes: Processes, client: httpx.AsyncClient, *, grpc: bool = False
    ) -> None:
        self.run_dir = run_dir
        self.processes = processes
        self.client = client
        self.grpc = grpc
        self.pods = pods(ratings_protocol="grpc" if grpc else "http")
        self.xds_port, self.xds_tls_port, self.debug_port, self.metrics_port = free_ports(4)
        self.config_dir = run_dir / "config"
        self.state_dir = run_dir / "state"
        self._examples = examples()

    @property
    def entry(self) -> Pod:
        """The pod that receives the load, and whose sidecar routes to reviews."""
        return self.pods[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.entry.ports.inbound}/productpage"

    def pod(self, name: str) -> Pod:
        return next(pod for pod in self.pods if pod.name == name)

    # Starting

    async def start(self) -> None:
        """Starts all processes and waits until every sidecar is ready. Raises `TimeoutError` and
        `ProcessError`."""
        self.config_dir.mkdir(parents=True)
        services = ("services-grpc", "ratings-grpc-retries") if self.grpc else ("services",)
        for name in (*services, "security", "destination-rules"):
            self.apply(name)
        await self.start_control_plane()
        await self.control_plane_ready()
        for pod in self.pods:
            await self.start_pod(pod)
        for pod in self.pods:
            await self.pod_ready(pod)

    async def start_control_plane(self) -> None:
        ports = {
            "--xds-port": self.xds_port,
            "--xds-tls-port": self.xds_tls_port,
            "--debug-port": self.debug_port,
            "--metrics-port": self.metrics_port,
        }
        command = [sys.executable, "-m", "controlplane", "--source", "files"]
        command += ["--folder", str(self.config_dir), "--state-dir", str(self.state_dir)]
        command += [word for flag, port in ports.items() for word in (flag, str(port))]
        command += ["--trust-domain", TRUST_DOMAIN]
        await self.processes.start(CONTROL_PLANE, command, {})

    async def control_plane_ready(self) -> None:
        async def healthy() -> bool:
            self.processes.check()
            answer = await self.client.get(f"http://127.0.0.1:{self.debug_port}/healthz")
            return answer.status_code == 200

        await until("the control plane", healthy, deadline_s=START_DEADLINE_S)

    async def all_connected(self, *, deadline_s: float) -> None:
        """Waits until every sidecar is connected to the control plane."""

        async def everyone() -> bool:
            self.processes.check()
            return len(await connected_proxies(self.client, self.debug_port)) >= len(self.pods)

        await until("every sidecar's connection to the control plane", everyone, deadline_s=deadline_s)

    async def start_pod(self, pod: Pod) -> None:
        """Writes the pod's resources, and starts its application and its sidecar."""
        (self.config_dir / f"pod-{pod.name}.yaml").write_text(pod.resources())
        folder = self.run_dir / "pods" / pod.name
        folder.mkdir(parents=True)
        token = folder / "token"
        token.write_bytes(await self._outrigger(*self._token_command(pod)))
        token.chmod(0o600)
        bootstrap = folder / "bootstrap.yaml"
        bootstrap.write_bytes(await self._outrigger(*self._bootstrap_command(pod)))
        app = [sys.executable, str(self._examples / "app.py"), pod.service, "--version", pod.version]
        if self.grpc:
            app += ["--grpc", "--unavailable-every", str(UNAVAILABLE_EVERY)]
        await self.processes.start(
            pod.name,
            [*app, "--port", str(pod.ports.app)],
            {
                "HTTP_PROXY": f"http://127.0.0.1:{pod.ports.outbound}",
                "POD_NAME": pod.name,
                "PYTHONSAFEPATH": "",  # `make demo` sets it, but app.py imports the module beside it
            },
        )
        sidecar = [sys.executable, "-m", "sidecar", "--config-path", str(bootstrap), "--concurrency", "1"]
        sidecar += ["--ca-address", f"127.0.0.1:{self.xds_tls_port}", "--ca-cert", str(self._root)]
        sidecar += ["--token-file", str(token), "--cache-dir", str(folder / "cache")]
        sidecar += ["--status-port", str(pod.ports.status), "--metrics-port", str(pod.ports.metrics)]
        sidecar += ["--drain-time-s", "0"]  # at the end of the demo no clients are connected
        await self.processes.start(f"{pod.name}-sidecar", sidecar, {})

    @property
    def _root(self) -> Path:
        return self.state_dir / "root-cert.pem"

    def _token_command(self, pod: Pod) -> list[str]:
        who = ["--namespace", NAMESPACE, "--service-account", pod.service_account]
        return ["token", "create", *who, "--state-dir", str(self.state_dir)]

    def _bootstrap_command(self, pod: Pod) -> list[str]:
        command = ["bootstrap", "--name", pod.name, "--namespace", NAMESPACE]
        command += ["--service-account", pod.service_account]
        for label, value in {**pod.labels, "pod": pod.name}.items():
            command += ["--label", f"{label}={value}"]
        command += ["--xds-address", f"127.0.0.1:{self.xds_tls_port}", "--ca-cert", str(self._root)]
        command += ["--admin-port", str(pod.ports.admin), "--http-proxy-port", str(pod.ports.outbound)]
        return [*command, "--interception", "NONE"]

    async def _outrigger(self, *arguments: str) -> bytes:
        """Runs an `outrigger` command as a user would, and returns its output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "outrigger", *arguments, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise ProcessError(f"outrigger {arguments[0]} ended with exit code {process.returncode}")
        return output

    async def pod_ready(self, pod: Pod) -> None:
        """Waits until the pod's sidecar is ready. Raises `TimeoutError` and `ProcessError`."""

        async def ready() -> bool:
            self.processes.check()
            answer = await self.client.get(f"http://127.0.0.1:{pod.ports.status}/healthz/ready")
            return answer.status_code == 200

        await until(f"the sidecar of {pod.name}", ready, deadline_s=START_DEADLINE_S)

    # Changing

    def apply(self, example: str, *, name: str | None = None) -> None:
        """Copies an example file into the resource folder, atomically, as an editor would."""
        target = self.config_dir / f"{name or example}.yaml"
        new = target.with_suffix(".yaml.tmp")
        shutil.copyfile(self._examples / f"{example}.yaml", new)
        new.replace(target)

    async def set_fault(self, pod: Pod, status: int) -> None:
        """Makes a replica's application answer all requests with `status`; 200 restores it."""
        answer = await self.client.post(f"http://127.0.0.1:{pod.ports.app}/fault?status={status}")
        answer.raise_for_status()

    def addresses(self) -> dict[str, str]:
        """Returns the addresses and folders to show to the user, by name."""
        local = "http://127.0.0.1"
        addresses = {
            "productpage": self.url,
            "control plane, debug API": f"{local}:{self.debug_port}/debug/syncz",
            "control plane, metrics": f"{local}:{self.metrics_port}/metrics",
            "control plane, resource folder": str(self.config_dir),
        }
        addresses |= {f"{pod.name}, sidecar's admin": f"{local}:{pod.ports.admin}/help" for pod in self.pods}
        return addresses
