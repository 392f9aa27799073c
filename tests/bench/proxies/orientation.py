"""HAProxy and nginx, where they are installed: what other proxies cost for the same simple work."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.site import Identity, Site
from tests.support.processes import Child, child, free_port

_HAPROXY = """
global
  maxconn 4000
  nbthread {workers}
defaults
  mode {mode}
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  {keep}
frontend bench
  bind 127.0.0.1:{port}{tls}
  default_backend upstream
backend upstream
  balance leastconn
{servers}
"""
_NGINX_HTTP = """
http {{
  access_log off;
  client_body_buffer_size 2m;
  client_max_body_size 0;
  proxy_max_temp_file_size 0;
  proxy_request_buffering off;
  upstream upstream {{ least_conn; {servers} keepalive 64; }}
  server {{
    listen 127.0.0.1:{port}{ssl};
    {files}
    keepalive_requests 1000000000;
    location / {{
      proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
  }}
}}
"""
_NGINX = """
daemon off; master_process on; worker_processes {workers}; pid {folder}/pid; error_log stderr error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
"""
_HOSTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Simple:
    """`mode` is ``http`` or ``tcp``; `server` is the identity of a listener with TLS."""

    upstream_port: int
    mode: str = "http"
    server: Identity | None = None


def start_others(site: Site, stack: ExitStack, simple: Simple) -> list[tuple[str, Child, int]]:
    """Each with its name and port."""
    started = []
    if site.others and shutil.which("haproxy"):
        started.append(("HAProxy", *_start_haproxy(site, stack, simple)))
    if site.others and shutil.which("nginx") and simple.mode == "http":
        started.append(("nginx", *_start_nginx(site, stack, simple)))
    return started


def _start_haproxy(site: Site, stack: ExitStack, simple: Simple) -> tuple[Child, int]:
    folder, port, tls = Path(tempfile.mkdtemp(dir=site.folder)), free_port(), ""
    if simple.server is not None:
        pem = folder / "server.pem"
        pem.write_text(Path(simple.server.certificate).read_text() + Path(simple.server.key).read_text())
        tls = f" ssl crt {pem} ssl-min-ver TLSv1.3"
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        _HAPROXY.format(
            workers=site.concurrency,
            mode=simple.mode,
            keep="option http-keep-alive" if simple.mode == "http" else "",
            port=port,
            tls=tls,
            servers="\n".join(f"  server s{n} 127.0.0.1:{simple.upstream_port}" for n in range(_HOSTS)),
        )
    )
    process = stack.enter_context(child(["haproxy", "-db", "-f", configuration], folder / "log"))
    process.wait_for_port(port)
    return process, port


def _start_nginx(site: Site, stack: ExitStack, simple: Simple) -> tuple[Child, int]:
    folder, port, ssl, files = Path(tempfile.mkdtemp(dir=site.folder)), free_port(), "", ""
    folder.chmod(0o755)  # its workers are another user
    if simple.server is not None:
        ssl = " ssl"
        files = f"ssl_certificate {simple.server.certificate}; ssl_certificate_key {simple.server.key};"
        files += " ssl_protocols TLSv1.3;"
    http = _NGINX_HTTP.format(
        port=port, ssl=ssl, files=files, servers=f"server 127.0.0.1:{simple.upstream_port}; " * _HOSTS
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(workers=site.concurrency, folder=folder) + http)
    command = ["nginx", "-e", "stderr", "-p", folder, "-c", configuration]
    process = stack.enter_context(child(command, folder / "log"))
    process.wait_for_port(port)
    return process, port
