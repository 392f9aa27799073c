"""The certificate by which the API server knows the node, and the roots of those who may call the node."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from base64 import b64decode, b64encode
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.kubernetes_api import KubernetesApi, Resource
from tests.support.node_agent.objects import patiently

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
# Where every API server publishes the authority of its clients, and of its own certificate for kubelets.
AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
SIGNER = "kubernetes.io/kubelet-serving"
ASK_AGAIN_AFTER_S = 0.05


async def serving_context(api: KubernetesApi, node: str, address: str) -> ssl.SSLContext:
    """For a server at the node's address that only clients of the cluster's authority reach.

    The cluster signs its certificate, as it does a kubelet's: by a CertificateSigningRequest, which we, its
    administrator, approve. Raises KubernetesError.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = await signed(api, request_for(key, node, address))
    published = await patiently(lambda: api.get(AUTHENTICATION))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata=published["data"]["client-ca-file"])
    context.verify_mode = ssl.CERT_REQUIRED
    with tempfile.TemporaryDirectory() as folder:  # readable for us alone; OpenSSL takes a file only
        file = Path(folder) / "node.pem"
        file.write_bytes(private_pem(key) + certificate)
        context.load_cert_chain(file)
    return context


def request_for(key: ec.EllipticCurvePrivateKey, node: str, address: str) -> bytes:
    """PEM, with the subject that the signer requires of a node."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    names = x509.SubjectAlternativeName([x509.DNSName(node), x509.IPAddress(ip_address(address))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


async def signed(api: KubernetesApi, request: bytes) -> bytes:
    """The certificate, in PEM."""
    spec = {
        "request": b64encode(request).decode(),
        "signerName": SIGNER,
        "usages": ["digital signature", "server auth"],
    }
    body = {"metadata": {"generateName": "node-agent-"}, "spec": spec}
    created = await patiently(lambda: api.create(REQUESTS, body))
    path = f"{REQUESTS}/{created['metadata']['name']}"
    condition = {"type": "Approved", "status": "True", "reason": "NodeAgent", "message": "its own node"}
    approval: Resource = {"status": {"conditions": [condition]}}
    await patiently(lambda: api.patch(f"{path}/approval", approval))
    while True:
        status = (await patiently(lambda: api.get(path)))["status"]
        if certificate := status.get("certificate"):
            return b64decode(certificate)
        await asyncio.sleep(ASK_AGAIN_AFTER_S)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
