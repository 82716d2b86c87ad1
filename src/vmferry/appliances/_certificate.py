"""The certificate of an appliance: who signed its manifest, and whether it was changed since. Source: DSP0243, 5.1.

A line ``SHA256(vm.mf)= HEX``, the RSA signature (PKCS#1 v1.5) of the manifest's digest, then certificates as PEM; the
signer's is the first. Nobody's word is taken for who the signer is: no authority is asked.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vmferry.errors import CorruptDiskError, quote
from vmferry.limits import MAX_MANIFEST

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SIGNATURE = re.compile(r"SHA-?(?:2-)?(1|256|384|512)\s*\((.+)\)\s*=\s*([0-9A-Fa-f]{2,4096})\s*", re.IGNORECASE)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,65536}-----END CERTIFICATE-----")


def check_certificate(content: bytes, manifest: bytes, name: str) -> list[str]:
    """Notes on who signed ``manifest`` by the certificate file ``content``, to be called ``name``.

    Raises ``CorruptDiskError`` when the signature is not that of the manifest. What cannot be checked is noted: whoever
    can change a manifest can leave the certificate out, too.
    """
    signature = _read_signature(content)
    found = _PEM.search(content[:MAX_MANIFEST])
    if signature is None or found is None:
        return [
            f"The certificate {quote(name)} is not checked: it has no signature or no certificate that can be read."
        ]
    try:
        from cryptography import x509
    except ImportError:
        return [f"The certificate {quote(name)} is not checked: install vmferry[certificates] for that."]
    try:
        certificate = x509.load_pem_x509_certificate(found[0])
        return _check(certificate, *signature, manifest, name)
    except (ValueError, TypeError, OverflowError) as error:  # a certificate, or a key in it, that makes no sense
        return [f"The certificate {quote(name)} is not checked, for it cannot be read: {quote(error)}."]


def _read_signature(content: bytes) -> tuple[str, bytes] | None:
    """The algorithm and the signature that the first line says."""
    first = content.lstrip()[:8192].splitlines()[:1]
    match = _SIGNATURE.fullmatch(first[0].decode("utf-8", "replace")) if first else None
    if match is None or len(match[3]) % 2:
        return None
    return f"sha{match[1]}", bytes.fromhex(match[3])


def _check(certificate: Certificate, algorithm: str, signature: bytes, manifest: bytes, name: str) -> list[str]:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    known = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
    signer = quote(certificate.subject.rfc4514_string() or "nobody named")
    try:
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            return [f"The signature of {signer} is not checked: it is not made with an RSA key."]
        key.verify(signature, manifest, PKCS1v15(), known[algorithm])
    except InvalidSignature as error:
        raise CorruptDiskError(
            f"{quote(name)}: the {algorithm.upper()} signature of {signer} is not that of the manifest: "
            "the manifest was changed after it was signed. Export or download the appliance again."
        ) from error
    except UnsupportedAlgorithm as error:
        return [f"The signature of {signer} is not checked: {quote(error)}."]
    return [_about(certificate, signer)]


def _about(certificate: Certificate, signer: str) -> str:
    begin, end, now = certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC)
    state = "expired" if now > end else "not valid yet" if now < begin else "valid"
    return (
        f"The manifest is signed by {signer}; the certificate is {state} "
        f"({begin:%Y-%m-%d} to {end:%Y-%m-%d}) and was not checked against any authority."
    )
