"""What is seen of a Windows: release by release, how it starts, how it was left, how it is reached, what is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.guest.hive_builder import HiveOptions, build_hive, expand
from tests.guest.windows_trees import (
    BOOT_DEVICE,
    GPT_VOLUMES,
    MBR_VOLUMES,
    PARTITION,
    RELEASES,
    VIRTIO_FILE,
    bcd,
    files,
    gpt_device,
    look,
    mbr_device,
    pe,
    see,
    virtio,
)
from vmferry.guest.facts_json import from_json, to_json
from vmferry.guest.windows.facts import DriverFacts, WindowsFacts

VERSION = "Microsoft\\Windows NT\\CurrentVersion"
CURRENT = "Microsoft\\Windows\\CurrentVersion"
POLICY = "Services\\SharedAccess\\Parameters\\FirewallPolicy"

EXPECTED = {
    "xp": ("Microsoft Windows XP", "5.1", 2600, "", "Client", "i386"),
    "2003": ("Microsoft Windows Server 2003 R2", "5.2", 3790, "", "Server", "x86_64"),
    "7": ("Windows 7 Professional", "6.1", 7601, "Professional", "Client", "x86_64"),
    "2008r2": ("Windows Server 2008 R2 Standard", "6.1", 7601, "ServerStandard", "Server", "x86_64"),
    "8.1": ("Windows 8.1 Pro", "6.3", 9600, "Professional", "Client", "x86_64"),
    "2012r2": ("Windows Server 2012 R2 Standard", "6.3", 9600, "ServerStandard", "Server Core", "x86_64"),
    "10": ("Windows 10 Pro", "10.0", 19045, "Professional", "Client", "x86_64"),
    "11": ("Windows 11 Pro", "10.0", 22631, "Professional", "Client", "x86_64"),
    "11-arm": ("Windows 11 Pro", "10.0", 26100, "Professional", "Client", "aarch64"),
    "2016": ("Windows Server 2016 Standard", "10.0", 14393, "ServerStandard", "Server", "x86_64"),
    "2019": ("Windows Server 2019 Standard", "10.0", 17763, "ServerStandard", "Server", "x86_64"),
    "2022": ("Windows Server 2022 Datacenter", "10.0", 20348, "ServerDatacenter", "Server Core", "x86_64"),
    "2025": ("Windows Server 2025 Standard", "10.0", 26100, "ServerStandard", "Server", "x86_64"),
}
BOOT_DRIVERS = {
    "xp": ("atapi", "intelide"),
    "2003": ("atapi", "intelide", "symmpi"),
    "7": ("LSI_SAS", "msahci"),
    "2008r2": ("intelide", "LSI_SAS"),
}
BOUND_DRIVERS = {"xp": ("atapi",), "2003": ("symmpi",), "7": ("LSI_SAS", "msahci"), "2008r2": ("LSI_SAS",)}


@pytest.mark.parametrize("release", RELEASES)
def test_each_release_says_what_it_is(release: str) -> None:
    facts = see(release)
    seen = (facts.product, facts.version, facts.build, facts.edition, facts.kind, facts.architecture)
    assert seen == EXPECTED[release]
    assert facts.problems == ()
    assert (facts.hostname, facts.domain, facts.control_set) == ("win-1", None, 1)
    assert facts.languages == ("en-US",)
    assert facts.boot_drivers == BOOT_DRIVERS.get(release, ("storahci", "stornvme", "storvsc"))
    assert facts.bound_drivers == BOUND_DRIVERS.get(release, ("storahci", "stornvme", "storvsc"))
    assert from_json(WindowsFacts, json.loads(json.dumps(to_json(facts)))) == facts


def test_details_of_the_version_are_kept() -> None:
    facts = see("2022")
    assert (facts.update, facts.release, facts.service_pack) == (1234, "21H2", "")
    assert see("2008r2").service_pack == "Service Pack 1"


def test_a_tree_without_windows_is_none() -> None:
    assert look({"/Users/x": b"", "/Windows/System32/drivers/x.sys": b""}) is None


def test_windows_may_be_in_another_folder() -> None:
    content = {path.replace("/Windows/", "/WIN2K3/"): data for path, data in files("2003").items()}
    facts = look(content)
    assert facts is not None
    assert facts.version == "5.2"
    assert facts.boot_drivers == BOOT_DRIVERS["2003"]


@pytest.mark.parametrize(("kernel", "said"), [(b"zeros", "does not begin as a program"), (None, "is missing")])
def test_without_the_program_the_registry_tells_the_architecture(kernel: bytes | None, said: str) -> None:
    environment = {"Control\\Session Manager\\Environment": {"PROCESSOR_ARCHITECTURE": "AMD64"}}
    facts = see("2019", environment, more={"/Windows/System32/ntoskrnl.exe": kernel})
    assert facts.architecture == "x86_64"
    assert any("ntoskrnl.exe" in problem and said in problem for problem in facts.problems)


# Drivers


def test_virtio_that_starts_at_boot_is_a_boot_driver() -> None:
    facts = see("2019", virtio(), more=VIRTIO_FILE)
    assert "viostor" in facts.boot_drivers
    assert "viostor" in facts.drivers
    assert "viostor" not in facts.bound_drivers
    (details,) = (driver for driver in facts.driver_details if driver.name == "viostor")
    path = "/Windows/System32/drivers/viostor.sys"
    assert details == DriverFacts("viostor", 0, path, file_exists=True, group="SCSI miniport")


@pytest.mark.parametrize(
    ("system", "more"),
    [
        (virtio(start=3), VIRTIO_FILE),
        (virtio(StartOverride={"0": 3}), VIRTIO_FILE),
        (virtio(), {}),
        (virtio(), {"/Windows/System32/drivers/viostor.sys": b""}),
        (virtio(ImagePath="\\??\\D:\\viostor.sys"), VIRTIO_FILE),
        (virtio(ImagePath="..\\..\\viostor.sys"), VIRTIO_FILE),
        (virtio(Start="0"), VIRTIO_FILE),
    ],
)
def test_virtio_that_is_only_installed_is_no_boot_driver(system: dict[str, Any], more: dict[str, bytes]) -> None:
    facts = see("2019", system, more=more)
    assert "viostor" in facts.drivers
    assert "viostor" not in facts.boot_drivers


@pytest.mark.parametrize(
    "path",
    [
        "system32\\DRIVERS\\viostor.sys",
        "\\SystemRoot\\system32\\drivers\\viostor.sys",
        "%SystemRoot%\\System32\\Drivers\\VioStor.sys",
        "\\??\\C:\\Windows\\System32\\drivers\\viostor.sys",
        "",
    ],
)
def test_a_driver_is_found_however_its_path_is_written(path: str) -> None:
    assert "viostor" in see("2019", virtio(ImagePath=expand(path)), more=VIRTIO_FILE).boot_drivers


def test_an_override_of_zero_changes_nothing() -> None:
    assert "viostor" in see("2019", virtio(StartOverride={"0": 0}), more=VIRTIO_FILE).boot_drivers


@pytest.mark.parametrize("hive", ["SYSTEM", "DRIVERS"])
def test_a_device_leads_to_virtio_by_the_driver_database_of_either_hive(hive: str) -> None:
    device = {"DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00": {"oem1.inf": b"\1\xff\0\0"}}
    more = dict(VIRTIO_FILE)
    if hive == "DRIVERS":
        more["/Windows/System32/config/DRIVERS"] = build_hive(device)
    facts = see("2022", virtio() | (device if hive == "SYSTEM" else {}), more=more)
    assert "viostor" in facts.bound_drivers


def test_a_device_leads_to_virtio_by_the_critical_devices_of_windows_7() -> None:
    device = {"Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1001&SUBSYS_00000000": {"Service": "viostor"}}
    facts = see("2008r2", virtio() | device, more=VIRTIO_FILE)
    assert "viostor" in facts.bound_drivers


def test_the_control_set_in_use_is_read_not_the_first() -> None:
    other = {"ControlSet001\\Services\\storahci": {"Start": 4}, "ControlSet001\\Services\\viostor": {"Start": 0}}
    facts = look(files("2019", other, control_set=2))
    assert facts is not None
    assert facts.control_set == 2
    assert "storahci" in facts.boot_drivers
    assert "viostor" not in facts.drivers
    assert facts.problems == ()


def test_a_control_set_that_is_not_there_is_a_problem_and_another_is_taken() -> None:
    facts = see("2019", {"Select": {"Current": 7, "Default": 1}})
    assert facts.control_set == 1
    assert "storahci" in facts.boot_drivers
    assert any("control set 7" in problem for problem in facts.problems)


@pytest.mark.parametrize(
    ("names", "takes"),
    [
        ([], False),
        (["Package_for_KB3033929_SP1~31bf3856ad364e35~amd64~~6.1.1.1.mum"], True),
        (["Package_for_RollupFix~31bf3856ad364e35~amd64~~7601.24544.1.7.mum"], True),
        (["Package_for_KB976902~31bf3856ad364e35~amd64~~6.1.1.17514.mum"], False),
    ],
)
def test_windows_7_takes_new_drivers_when_it_was_updated(names: list[str], *, takes: bool) -> None:
    more = {f"/Windows/servicing/Packages/{name}": b"" for name in names}
    assert see("7", more=more).sha2_drivers is takes
    assert see("10", more=more).sha2_drivers is None


# How it starts


def test_bios_with_the_system_partition_beside() -> None:
    facts = look(files("2012r2"), MBR_VOLUMES, boot={"/bootmgr": b"x", "/Boot/BCD": bcd(mbr_device())})
    assert facts is not None
    assert (facts.boot_mode, facts.boot_config) == ("legacy-bios", "/boot/Boot/BCD")
    assert (facts.root_named, facts.root_volume) == ("disk b3eba8f1, byte 368050176", "disk 1, partition 2")
    assert (facts.efi_loader, facts.efi_fallback, facts.efi_fallback_is_own) == (None, None, None)


def test_bios_from_the_drive_itself() -> None:
    more = {"/bootmgr": b"x", "/Boot/BCD": bcd(BOOT_DEVICE)}
    facts = look(files("7", more=more), MBR_VOLUMES)
    assert facts is not None
    assert (facts.boot_mode, facts.boot_config, facts.root_named) == ("legacy-bios", "/Boot/BCD", "boot")


def test_a_disk_signature_that_changed_leads_nowhere() -> None:
    facts = look(files("7", more={"/bootmgr": b"x", "/Boot/BCD": bcd(mbr_device(signature=1))}), MBR_VOLUMES)
    assert facts is not None
    assert (facts.root_named, facts.root_volume) == ("disk 00000001, byte 368050176", None)


def test_uefi_with_its_fallback() -> None:
    loader = pe("x86_64").ljust(9000, b"\1")
    esp = {
        "/EFI/Microsoft/Boot/BCD": bcd(gpt_device()),
        "/EFI/Microsoft/Boot/bootmgfw.efi": loader,
        "/EFI/Boot/bootx64.efi": loader,
    }
    facts = look(files("11"), GPT_VOLUMES, efi=esp)
    assert facts is not None
    assert (facts.boot_mode, facts.boot_config) == ("uefi", "/boot/efi/EFI/Microsoft/Boot/BCD")
    assert (facts.root_named, facts.root_volume) == (f"partition {PARTITION}", "disk 1, partition 3")
    assert facts.efi_loader == "/EFI/Microsoft/Boot/bootmgfw.efi"
    assert (facts.efi_fallback, facts.efi_fallback_is_own) == ("/EFI/BOOT/BOOTX64.EFI", True)


def test_uefi_without_a_fallback_or_with_another_s() -> None:
    esp = {"/EFI/Microsoft/Boot/BCD": bcd(gpt_device()), "/EFI/Microsoft/Boot/bootmgfw.efi": b"own"}
    facts = look(files("2022"), GPT_VOLUMES, efi=esp)
    assert facts is not None
    assert (facts.efi_fallback, facts.efi_fallback_is_own) == (None, None)
    facts = look(files("2022"), GPT_VOLUMES, efi=esp | {"/EFI/BOOT/BOOTX64.EFI": b"grub"})
    assert facts is not None
    assert (facts.efi_fallback, facts.efi_fallback_is_own) == ("/EFI/BOOT/BOOTX64.EFI", False)
    facts = look(files("11-arm"), GPT_VOLUMES, efi=esp | {"/EFI/BOOT/BOOTX64.EFI": b"own"})
    assert facts is not None
    assert facts.efi_fallback is None, "that of another architecture is none"


@pytest.mark.parametrize(("volumes", "mode"), [(GPT_VOLUMES, "uefi"), (MBR_VOLUMES, "legacy-bios"), ((), None)])
def test_the_partition_table_tells_the_mode_where_no_configuration_is(volumes: Any, mode: str | None) -> None:
    facts = look(files("2019"), volumes)
    assert facts is not None
    assert (facts.boot_mode, facts.boot_config) == (mode, None)


@pytest.mark.parametrize(("volumes", "mode"), [(GPT_VOLUMES, "uefi"), (MBR_VOLUMES, "legacy-bios"), ((), "uefi")])
def test_the_partition_table_tells_the_mode_where_both_configurations_are(volumes: Any, mode: str) -> None:
    old = {"/bootmgr": b"x", "/Boot/BCD": bcd(BOOT_DEVICE)}
    facts = look(files("10", more=old), volumes, efi={"/EFI/Microsoft/Boot/BCD": bcd(BOOT_DEVICE)})
    assert facts is not None
    assert facts.boot_mode == mode


def test_windows_xp_starts_by_boot_ini() -> None:
    path = "multi(0)disk(0)rdisk(0)partition(2)\\WINDOWS"
    more = {"/ntldr": b"x", "/boot.ini": f"[boot loader]\r\ntimeout=30\r\ndefault={path}\r\n".encode()}
    facts = look(files("xp", more=more), MBR_VOLUMES)
    assert facts is not None
    assert (facts.boot_mode, facts.boot_config) == ("legacy-bios", "/boot.ini")
    assert (facts.root_named, facts.root_volume) == (path, "disk 1, partition 2")


def test_a_console_on_the_serial_port_and_a_dark_boot_manager_are_seen() -> None:
    dark = {"/bootmgr": b"x", "/Boot/BCD": bcd(BOOT_DEVICE, e16000046=b"\1", e260000b0=b"\1")}
    facts = see("2019", more=dark)
    assert (facts.serial_console, facts.graphics_disabled) == (True, True)
    light = {"/bootmgr": b"x", "/Boot/BCD": bcd(None, e16000046=b"\0")}
    facts = see("2019", more=light)
    assert (facts.serial_console, facts.graphics_disabled, facts.root_named) == (False, False, None)


# How it was left


@pytest.mark.parametrize(
    ("head", "hibernated"), [(b"hibr", True), (b"HIBR", True), (b"RSTR", True), (b"wake", False), (bytes(4), False)]
)
def test_a_session_that_waits_is_hibernation(head: bytes, *, hibernated: bool) -> None:
    assert see("10", more={"/hiberfil.sys": head + bytes(4092)}).hibernated is hibernated


def test_fast_startup_needs_the_setting_and_the_file() -> None:
    setting = {"Control\\Session Manager\\Power": {"HiberbootEnabled": 1}}
    assert see("10", setting, more={"/hiberfil.sys": bytes(4096)}).fast_startup
    assert not see("10", setting).fast_startup
    assert not see("10", more={"/hiberfil.sys": bytes(4096)}).fast_startup


@pytest.mark.parametrize(
    ("system", "software", "more", "pending"),
    [
        ({}, {}, {}, ()),
        ({}, {f"{CURRENT}\\WindowsUpdate\\Auto Update\\RebootRequired": {"a": 1}}, {}, ("updates",)),
        ({}, {f"{CURRENT}\\Component Based Servicing\\RebootPending": {}}, {}, ("servicing",)),
        ({}, {}, {"/Windows/WinSxS/pending.xml": b"<PendingTransaction/>"}, ("servicing",)),
        ({"Control\\Session Manager": {"PendingFileRenameOperations": ("\\??\\C:\\a", "", "\\??\\C:\\b", "")}}, {}, {},
         ("renames",)),
        ({"Control\\Session Manager": {"PendingFileRenameOperations": ()}}, {}, {}, ()),
    ],
)  # fmt: skip
def test_what_waits_for_a_restart_is_named(system: Any, software: Any, more: Any, pending: tuple[str, ...]) -> None:
    assert see("2016", system, software, more).pending == pending


def test_sysprep_is_read_from_the_registry_or_from_its_file() -> None:
    state = "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
    facts = see(
        "2019",
        {"Setup": {"OOBEInProgress": 1}},
        {f"{CURRENT}\\Setup\\State": {"ImageState": state}},
    )
    assert (facts.sysprep, facts.setup_unfinished) == (state, True)
    ini = {"/Windows/Setup/State/State.ini": b"[State]\r\nImageState=IMAGE_STATE_COMPLETE\r\n"}
    facts = see("2019", more=ini)
    assert (facts.sysprep, facts.setup_unfinished) == ("IMAGE_STATE_COMPLETE", False)


# How it is reached


def test_static_addresses_are_listed_with_their_prefix() -> None:
    interfaces = "Services\\Tcpip\\Parameters\\Interfaces"
    facts = see("2019", {
        f"{interfaces}\\{{1}}": {
            "EnableDHCP": 0, "IPAddress": ("10.0.0.5", "10.0.0.6"), "SubnetMask": ("255.255.255.0",)
        },
        f"{interfaces}\\{{2}}": {"EnableDHCP": 1, "IPAddress": ("10.0.0.7",), "DhcpIPAddress": "10.0.0.8"},
        f"{interfaces}\\{{3}}": {"EnableDHCP": 0, "IPAddress": ("0.0.0.0",)},
    })  # fmt: skip
    assert facts.static_addresses == ("10.0.0.5/24", "10.0.0.6")


@pytest.mark.parametrize(
    ("system", "software", "on"),
    [
        ({}, {}, False),
        ({"Control\\Terminal Server": {"fDenyTSConnections": 0}}, {}, True),
        ({"Control\\Terminal Server": {"fDenyTSConnections": 0}, "Services\\TermService": {"Start": 4}}, {}, False),
        ({}, {"Policies\\Microsoft\\Windows NT\\Terminal Services": {"fDenyTSConnections": 0}}, True),
        ({"Control\\Terminal Server": {"fDenyTSConnections": "odd"}}, {}, None),
    ],
)
def test_remote_desktop(system: Any, software: Any, *, on: bool | None) -> None:
    facts = see("2019", system, software)
    assert facts.remote_desktop is on
    assert facts.remote_desktop_port == 3389


@pytest.mark.parametrize(
    ("system", "software", "profiles"),
    [
        ({}, {}, ("domain", "private", "public")),
        ({f"{POLICY}\\DomainProfile": {"EnableFirewall": 0}}, {}, ("private", "public")),
        ({"Services\\MpsSvc": {"Start": 4}}, {}, ()),
        ({}, {"Policies\\Microsoft\\WindowsFirewall\\PublicProfile": {"EnableFirewall": 0}}, ("domain", "private")),
        ({}, {"Policies\\Microsoft\\WindowsFirewall\\PrivateProfile": {"EnableFirewall": 0}}, ("domain", "public")),
    ],
)
def test_the_firewall_is_on_by_profile(system: Any, software: Any, profiles: tuple[str, ...]) -> None:
    assert see("2019", system, software).firewall == profiles


@pytest.mark.parametrize(
    ("rule", "profiles"),
    [
        ("v2.30|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=3389|", ("domain", "private", "public")),
        ("v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|Profile=Domain|Profile=Private|", ("domain", "private")),
        ("v2.30|Action=Allow|Active=FALSE|Dir=In|Protocol=6|LPort=3389|", ()),
        ("v2.30|Action=Block|Active=TRUE|Dir=In|Protocol=6|LPort=3389|", ()),
    ],
)
def test_a_rule_lets_remote_desktop_in(rule: str, profiles: tuple[str, ...]) -> None:
    facts = see("2019", {f"{POLICY}\\FirewallRules": {"RemoteDesktop-UserMode-In-TCP": rule}})
    assert facts.remote_desktop_profiles == profiles


def test_windows_xp_lists_open_ports() -> None:
    port = {
        f"{POLICY}\\StandardProfile\\GloballyOpenPorts\\List": {"3389:TCP": "3389:TCP:*:Enabled:@xpsp2res.dll,-22009"}
    }
    assert see("xp", port).remote_desktop_profiles == ("private",)


# What is in it


@pytest.mark.parametrize(
    ("service", "fact", "expected"),
    [
        ("VMTools", "tools", "vmware-tools"),
        ("VBoxGuest", "tools", "virtualbox-guest-additions"),
        ("xenagent", "tools", "xen-tools"),
        ("QEMU-GA", "tools", "qemu-ga"),
        ("Ec2Config", "agents", "ec2config"),
        ("Amazon EC2Launch", "agents", "ec2launch-v2"),
        ("cloudbase-init", "agents", "cloudbase-init"),
        ("SepMasterService", "protection", "Symantec"),
        ("CSFalconService", "protection", "CrowdStrike Falcon"),
    ],
)
def test_software_is_known_by_its_services(service: str, fact: str, expected: str) -> None:
    assert getattr(see("2019", {f"Services\\{service}": {"Start": 2}}), fact) == (expected,)
    assert getattr(see("2019", {f"Services\\{service}": {"Start": 4}}), fact) == ()


def test_software_that_is_known_otherwise() -> None:
    facts = see(
        "2019",
        {"Services\\vmms": {"Start": 2}, "DriverDatabase\\DriverInfFiles\\guestor.inf": {"": ("guestor.inf_tmp",)}},
        {"Microsoft\\Virtual Machine\\Guest\\Parameters": {"HostName": "hv1"}},
        {"/ProgramData/Amazon/EC2-Windows/Launch/Config/x.json": b""},
    )
    assert (facts.tools, facts.agents, facts.hyper_v_role) == (("hyper-v",), ("ec2launch",), True)
    assert facts.leftovers == ("guestor",)


def test_versions_of_net_framework() -> None:
    ndp = "Microsoft\\NET Framework Setup\\NDP"
    software = {f"{ndp}\\v3.5": {"Install": 1}, f"{ndp}\\v4\\Full": {"Install": 1, "Release": 528049}}
    assert see("2019", software=software).net_framework == ("3.5", "4.8")


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("Volume:GVLK", "kms"), ("Volume:MAK", "mak"), ("Volume:CSVLK", "kms-server"), ("Retail", "retail"),
     ("OEM:SLP", "oem"), ("OEM:DM", "oem"), ("", None)],
)  # fmt: skip
def test_the_channel_of_the_product_key(channel: str, expected: str | None) -> None:
    record = bytes(1016) + channel.encode("utf-16-le").ljust(128, b"\0") + bytes(128)
    assert see("2019", software={VERSION: {"DigitalProductId4": record}}).activation == expected


def test_the_channel_where_only_the_product_id_tells() -> None:
    assert see("xp").activation == "oem"
    assert see("2003").activation == "volume"
    assert see("7", software={VERSION: {"ProductId": "00371-OEM-8992671-00524"}}).activation == "oem"
    server = {f"{VERSION}\\SoftwareProtectionPlatform": {"KeyManagementServiceName": "kms.example.com"}}
    facts = see("2019", software=server)
    assert (facts.activation, facts.kms_server) == ("kms", "kms.example.com")


def test_settings() -> None:
    facts = see(
        "2019",
        {
            "Control\\TimeZoneInformation": {"RealTimeIsUniversal": 1},
            "Services\\partmgr\\Parameters": {"SanPolicy": 2},
            "Services\\Tcpip\\Parameters": {"Domain": "corp.example.com"},
            "Control\\SecureBoot\\State": {"UEFISecureBootEnabled": 1},
            "Control\\Session Manager\\Memory Management": {"PagingFiles": ("D:\\pagefile.sys 16 16", "e:\\p.sys 0 0")},
            "Control\\MUI\\UILanguages\\de-DE": {"LCID": 1031},
        },
        {
            f"{VERSION}\\Winlogon": {"AutoAdminLogon": "1"},
            "Policies\\Microsoft\\Windows\\DeviceInstall\\Restrictions": {"DenyUnspecified": 1},
            "Policies\\Microsoft\\Windows\\PowerShell": {"ExecutionPolicy": "AllSigned"},
        },
    )
    assert facts.real_time_is_universal
    assert facts.san_policy == "offline-shared"
    assert facts.domain == "corp.example.com"
    assert facts.secure_boot
    assert facts.auto_reboot
    assert facts.page_file_drives == ("D:", "E:")
    assert facts.languages == ("de-DE", "en-US")
    assert facts.auto_logon
    assert facts.device_restrictions
    assert facts.execution_policy == "AllSigned"
    plain = see("2019")
    assert (plain.real_time_is_universal, plain.san_policy, plain.auto_logon) == (False, None, False)
    assert (plain.device_restrictions, plain.execution_policy, plain.page_file_drives) == (False, None, ("C:",))


# What is damaged or odd


def test_a_hive_that_was_not_written_out_names_its_logs() -> None:
    content = files("2019")
    config = "/Windows/System32/config"
    content[f"{config}/SYSTEM"] = build_hive({"Select": {"Current": 1}}, HiveOptions(sequences=(9, 8)))
    content[f"{config}/SYSTEM.LOG1"] = b"x"
    facts = look(content)
    assert facts is not None
    assert any("SYSTEM.LOG1" in problem and "not written out" in problem for problem in facts.problems)


def test_missing_and_foreign_hives_are_sentences() -> None:
    content = files("2019")
    del content["/Windows/System32/config/SOFTWARE"]
    content["/Windows/System32/config/SYSTEM"] = b"PK\3\4" + bytes(9000)
    facts = look(content)
    assert facts is not None
    assert (facts.product, facts.architecture, facts.boot_drivers) == ("Windows", "x86_64", ())
    assert any("SOFTWARE is missing" in problem for problem in facts.problems)
    assert any("SYSTEM does not begin" in problem for problem in facts.problems)


def test_no_control_characters_come_out() -> None:
    bad = "\x1b]0;evil\x07\u202e"
    facts = see(
        "2019",
        {"Services\\Tcpip\\Parameters": {"NV Hostname": bad, "Domain": bad}, f"Control\\MUI\\UILanguages\\x{bad}": {}},
        {VERSION: {"ProductName": f"Windows {bad}", "EditionID": bad}},
    )
    text = json.dumps(to_json(facts), ensure_ascii=False)
    assert "evil" in text
    assert not {char for char in text if ord(char) < 32 or char in "\x7f\u202e"}
