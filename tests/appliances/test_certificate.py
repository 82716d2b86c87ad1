"""Certificates: who signed the manifest, and that nobody changed it since."""

from __future__ import annotations

import builtins
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.appliances.ova_builder import envelope, make_tar, manifest
from vmferry.appliances import open_appliance
from vmferry.appliances._certificate import check_certificate
from vmferry.blob import MemoryBlob
from vmferry.errors import CorruptDiskError, VmferryError

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
FILES = {"vm.ovf": envelope(), "disk1.vmdk": b"disk one"}
MANIFEST = manifest(FILES)
ALGORITHMS: dict[str, hashes.HashAlgorithm] = {
    "SHA1": hashes.SHA1(),
    "SHA256": hashes.SHA256(),
    "SHA512": hashes.SHA512(),
}


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def certificate(begin: datetime, end: datetime, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example Vendor")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1000)
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def signed(content: bytes = MANIFEST, algorithm: str = "SHA256", begin: int = -1, end: int = 1) -> bytes:
    """The certificate file of ``content``, valid from and to so many days from now."""
    signature = rsa_key().sign(content, padding.PKCS1v15(), ALGORITHMS[algorithm])
    pem = certificate(NOW + begin * DAY, NOW + end * DAY, rsa_key())
    return f"{algorithm}(vm.mf)= {signature.hex()}\n".encode() + pem


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("begin", "end", "state"), [(-1, 1, "valid"), (-9, -2, "expired"), (2, 9, "not valid yet")])
def test_a_signature_that_is_right_says_who_signed_and_when(algorithm: str, begin: int, end: int, state: str) -> None:
    (note,) = check_certificate(signed(MANIFEST, algorithm, begin, end), MANIFEST, "vm.cert")
    assert note == (
        f"The manifest is signed by CN=Example Vendor; the certificate is {state} "
        f"({NOW + begin * DAY:%Y-%m-%d} to {NOW + end * DAY:%Y-%m-%d}) and was not checked against any authority."
    )


def test_spellings_and_a_chain_behind_it() -> None:
    content = signed().replace(b"SHA256(vm.mf)= ", b"\r\nSHA256 (vm.mf) =  ")
    content += certificate(NOW, NOW + DAY, rsa_key())
    assert "signed by CN=Example Vendor" in check_certificate(content, MANIFEST, "vm.cert")[0]


def test_a_manifest_that_was_changed_is_refused() -> None:
    with pytest.raises(CorruptDiskError, match=r"vm\.cert: the SHA256 signature of CN=Example Vendor.*was changed"):
        check_certificate(signed(), MANIFEST + b" ", "vm.cert")


def test_a_signature_that_was_changed_is_refused() -> None:
    content = bytearray(signed())
    place = content.index(b"= ") + 10
    content[place] = ord("0") if content[place] != ord("0") else ord("1")
    with pytest.raises(CorruptDiskError, match="is not that of the manifest"):
        check_certificate(bytes(content), MANIFEST, "vm.cert")


def test_a_package_is_opened_with_its_certificate_or_refused() -> None:
    listed = FILES | {"vm.mf": MANIFEST}
    appliance = open_appliance(MemoryBlob(make_tar(listed | {"vm.cert": signed()}), "vm.ova"))
    assert len(appliance.machine.notes) == 1
    assert "signed by CN=Example Vendor; the certificate is valid" in appliance.machine.notes[0]
    with pytest.raises(CorruptDiskError, match=r"vm\.ova:vm\.cert"):
        open_appliance(MemoryBlob(make_tar(listed | {"vm.cert": signed(b"another")}), "vm.ova"))
    notes = open_appliance(MemoryBlob(make_tar(FILES | {"vm.cert": signed()}), "vm.ova")).machine.notes
    assert notes[0] == "The certificate vm.cert vouches for no manifest."


def test_a_key_that_is_not_rsa_is_noted() -> None:
    pem = certificate(NOW, NOW + DAY, ec.generate_private_key(ec.SECP256R1()))
    (note,) = check_certificate(b"SHA256(vm.mf)= 00ff\n" + pem, MANIFEST, "vm.cert")
    assert "not made with an RSA key" in note


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"SHA256(vm.mf)= 00", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----",
     b"SHA256(vm.mf)= 00\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", b"SHA256(vm.mf)= 0\n" * 9,
     b"SHA256(" + b")" * (1 << 20), b"-----BEGIN CERTIFICATE-----" * 40_000, b"\xff" * 1000],
)  # fmt: skip
def test_what_cannot_be_read_is_noted(content: bytes) -> None:
    (note,) = check_certificate(content, MANIFEST, "vm.cert")
    assert note.startswith("The certificate vm.cert is not checked")
    assert "\n" not in note


def test_without_the_library_it_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    (note,) = check_certificate(signed(), MANIFEST, "vm.cert")
    assert "install vmferry[certificates]" in note


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_flipped_bytes_give_notes_or_an_error_of_ours(data: st.DataObject) -> None:
    content = bytearray(signed())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        notes = check_certificate(bytes(content), MANIFEST, "vm.cert")
    except VmferryError:
        return
    assert len(notes) == 1
