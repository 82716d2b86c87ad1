"""The names in an initramfs: every packing, several archives one after the other, bombs and damage."""

from __future__ import annotations

import bz2
import lzma
import random
import shutil
import subprocess
import sys
import time
from base64 import b85decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest.linux_trees import cpio, early, gzipped, initramfs
from vmferry.errors import GuestError
from vmferry.guest.linux import initramfs as room
from vmferry.guest.linux import lz4, lzo
from vmferry.guest.linux.compression import PackedInput, find_compression, unpack
from vmferry.guest.linux.initramfs import Initramfs, read_initramfs
from vmferry.limits import MAX_INITRAMFS_NAMES

pytestmark = pytest.mark.slow

# Made of ``packed_by_others()`` by ``lz4 -l -9``, ``lzop -9`` and ``lzop -1``.
LZ4 = b85decode(
    b"0wGKomj(a;cQ7|FH!v|U0RUe(F<~??0RRIUF%AGEV`4J^4j=#sHvl9uW(olRD0OpkFKlUIFKusRb!=sGFE%bQE-"
    b")`^WpZw1Y%gSTX?A6Db1!yja&&2LE^BW90001gMNCEj0RaCQ|0OuI=2GNMr}8%qo+b__6J=1Oqo&Y*TnsZWixMOVKhi6ZFNqQ87#M76V"
    b"`Xl0Wj#kwOaKf3Dfu1Aom~I{0s{mE1_uZU3JVMk4i69!5)%{^78e*98XFuP9v>hfA|oUvCMN)F0v|DK0vbOuW;bjC6E8C}Yyu!oUt(-"
    b")Z~_kj0RR6${~2AFF_m=$*$$Ll;^_5G=Yh<1_BPm1nF(5>02W$j18<vD4Qr1J;t`w!H9r@eJ)8q0A2OT+8b35LGn@lRPAza_X`BNO0Ra"
    b"F1|84&n+4ndX&TbKnCQ7Yrw%s8QuavCQ&yvBABYd$RT@Z}&SuiF!IJ0n}$OJV%cAucg1S20a$OIZcH8f^q2uVI}Wpu~{4*>xG|NsA*{~"
    b"7T}Kb5Hso$~Q8)(_7Fy_59{=9LuMjAfkSu?)=G>-mt;m^iT4><jb-"
    b"H9wbuj`Rg1A2jp@8ZS0C#1Iu9Wb_3ZL2h<!W$pzI>;(@20RR90|Np@M8OxT$+pWGAB9_%7N<y+sYozAwB<y2qiol^K9$024k~pgPPFMw"
    b"Pj~E9vKd9}{7zZOCH5dmPKR01F7zaX5VQ6D%7zYml0RR90|NsB;{~46Jm#&KyL@wgnVH%OY<CJN0I+91#kE6v<7%&5JRbSFI@fa!lIE+"
    b"LHH9zD`wnPXcA2vh?7+*0lG&way2ooqUVMGZ3|A}I0ZZBZ~H}Db=!*F_#v;{&Bv1xan-"
    b"?h0kBn1_JRIx6uV$mLmez10J7<c%_@A7L<5U(+J(P8J6ho@%jFysStSgDX)t%to#cjA~oCv;rPnlS|~luYrmAnKyW`x|{eKXddHuWk*K"
    b"RUq9=AxCqD2J*jt#{vo9%?0jPAnm-mI?U#B2uij|{Ji9wIKAxp&Pu%!5RW+?yax`0=okuX)bu(k|NPUzF8GjFRdwhl;>+spg0C!nX>9a"
    b"smwX8d^x;PK&@m9JhVR}Jp6a^8dJW!=^3$=BUK0Y!S5P0|%9?-C%)wDmLP8Q(kKq2XdrGBQ&7UZkOB5!58v}Hd-"
    b"5deTYTwCp(Q=v*{vZg~H|X^j)}Ge!fxQ|<DS}>kMOksO8sP=1veu&z3kZl04?-"
    b"=wHv5#b%WXnWfjp|Evq<!l3yC}aGmmAirKxGsaDx?cuRz;KQtNcLPddY5h!Pd!9@8wVJyz9N2d~BjHCWE@lBqFvDYE}s<~Ic^I5}mUc>"
    b"Vbu3aVm$0HYTV`*z$n00991|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|"
    b"NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0"
    b"|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC"
    b"0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|8DXB9yjn35W{eKkhBFt53y-"
    b"?p5L{(G$aKTe^jw9u42(1h<>nkZ5Vg>#_#fLP!O*%chO<zm4~Nh>@eg5bXcj7T&;(_On2g#KPPlt%bGC-"
    b"E|g61vLNcB$NL+7K0kBx6t8X#lT{$yOd&^eh6eJ#e#Zg{;LQc@S0L@Yx;o6}atKPcN&LLzn>fAf`p!zd5)h9$9=rz*gXkCvYt-"
    b"~QD*yb`!7liaS5<ZBCgRKL?t-"
    b"r@eQ9j;YnOZp3iRPd_Ruj9tA_916Q1h2!+H(gj`Gv7l3o)6%2!Yy;L4hR(agb7P(nfySC8QSv3p9TS<Rm)m`fBUe;WgIl-"
    b"(Qw%xd4sbkTB}5&j?u*Ei_(7uKHE@qxV>MJa+_c|}=qvKrw9s<PIj5DN&14>17`%>YrN0000mH!wFaF)#rD5H|$?UpO&gG%x`G10OLM0"
    b"0bX6AOH*$VhI4RR8m1nOhr;5At7S|Ku`bx0000"
)
LZOP_9 = b85decode(
    b"iA-"
    b"8g01XNn3J^dbpb0<&2?GEC4FCWD0BZ@NHUIzs001e60>S_RHUIzs2LmD|&3_XxH%0(4Fev~40yr^YG%z#)05L2!0Aph41~YsBCjtO6X5"
    b";|?9d&bZFKlUIFKusRb!=sGFE%bQE-"
    b")`^WpZw1Y%gSTX?A6Db1!yja&&2LE^BW9KmY=NMNCEjAOH&h001I5wB}OeO{elV4W1?rClh5*q@$+Le_RYRFN+c+2tU#*kS~c5=olDmX"
    b"=7z>b7eh8P)q<I8!P|-8p)kq009C61O)~M2nh-"
    b"c3=Iws5D^j+6crX17#SKH9337XAR!_nBqb&%04uEtF(3@D2{L9kAO)@oGczC(tO)^MVr*+502jOoAOH*i000(Um@$=g1lbOhUE=8VPUn"
    b"Hlb@n#cP?-"
    b"r@qW~6KX9I7WR1Is73*r$VCvOfHoIM~FZ4NRZ3~vrJGBY4LYz_e}aARp8002a64j=#w0000M+4ndX&TbKnCQ7Yrw%s8QuavCQ&yvBABY"
    b"d$RT@Z}&SuiF!IJ0n}ASWLacAuai6&({ZAPgT9H8f@*JC7l5Wpp3_0040u6CeN#0000M@kl?FsSTa-"
    b"@i5j8&jh`b^$O;d6xxhsoZ_(z%-ZYukkObpu-EJhAScfkmw}ET70nkkAPmkIHa8##4MSug49ph+Zgy>Dl)WGT0001&tQQ~v3;+NC7R#2"
    b"z+pWGAB9_%7N<y+sYozAwB<y2qiol^K9$024k~pgPPFMwPk02*s9H{NkAQfF4H6RRM95-"
    b"P%AT(SY0byukX&?Xq0002VTpS<(3;+NC7L>Y|u8S2!F5=r^8j-)_lxcH1l1J5#qs34dFavT`U(z-"
    b"47%BTWj36fuA>>T9AQcTEHXsTNAp$WmG&waO1r8xFVJZwE004$!X>KoJ05|Xw5W{eKkhBFt53y-"
    b"?p5L{(G$aKTe^jw9u42(1h<>nkZ5Vg>#_#fLP!O*%chO<zm4~Nh>@eg5bXcj7T&;(_On2g#KPPlt%bGC-"
    b"E|g61vLNcB$NL+7K0kBx6t8X#lT{$yOd&^eh6eJ#e#Zg{;LQc@S0L@Yx;o6}atKPcN&LLzn>fAf`p!zd5)h9$9=rz*gXkCvYt-"
    b"~QD*yb`!7liaS5<ZBCgRKL?t-"
    b"r@eQ9j;YnOZp3iRPd_Ruj9tA_916Q1h2!+H(gj`Gv7l3o)6%2!Yy;L4hR(agb7P(nfySC8QSv3p9TS<Rm)m`fBUe;WgIl-"
    b"(Qw%xd4sbkTB}5&j?u*Ei_(7uKHE@qxV>MJa+_c|}=qvKrw9s<PIj5DN&14-"
    b"Y~uyEgljv&(HlPk}tDrL#!%lM9JE{xgqduBEAI(r|+na<4$!NK)%`w@*65Vu%tI;~vv2t36iLSO>4h1vOaC@RF%9b}6#|TIM$eD>yl2o"
    b"Ou2D9SW*qegLBv5Bql9Hvk|200000008Cy03ZMW000000OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03ZMW000000OkMy"
    b"AOHXW00000<^TX7000000002y001BW00000008Cy03ZMW000000OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03ZMW0000"
    b"00OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03ZMW000000OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03Z"
    b"MW000000OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03ZMW000000OkMyAOHXW00000<^TX7000000002y001BW0000000"
    b"8Cy03ZMW000000OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03ZMW000000OkMyAOKGQ0000RH}Db=!*F_#v;{&Bv1xan-"
    b"?h0kBn1_JRIx6uV$mLmez10J7<c%_@A7L<5U(+J(P8J6ho@%jFysStSgDX)t%to#cjA~oCv;rPnlS|~luYrmAnKyW`x|{eKXddHuWk*K"
    b"RUq9=AxCqD2J*jt#{vo9%?0jPAnm-mI?U#B2uij|{Ji9wIKAxp&Pu%!5RW+?yax`0=okuX)bu(k|NPUzF8GjFRdwhl;>+spg0C!nX>9a"
    b"smwX8d^x;PK&@m9JhVR}Jp6a^8dJW!=^3$=BUK0Y!S5P0|%9?-C%)wDmLP8Q(kKq2XdrGBQ&7UZkOB5!58v}Hd-"
    b"5deTYTwCp(Q=v*{vZg~H|X^j)}Ge!fxQ|<DS}>kMOksO8sP=1veu&z3kZl0fF>YAFauf)FgHd3F)*P3H*f#~I5A-"
    b"~Ff;)GF*RKPI6Zv;V&DM>R8m1nOhr;5At4|)oCy&C0000000"
)
LZOP_1 = b85decode(
    b"iA-"
    b"8g01XNn3J^dbpb0<%0RsR44FCWD0BZ@NHUIzs001cD0=WPIHUIzs2RI@o&3^<iH!wFaF)%3r00B5LVKgZ?04gW|E1UoUFfn6d(E~W#04"
    b"#g}&;kK4FfwN70RSX*b8;_iX<{#JZ)A0BWpgh!E-"
    b"@}JFKcCTZe?sQWO8YCWpZ;bc4=~SX>TrTZvX%Q0DnbHMtlGu00;~K03tZF=2GNMr}8%qo+b__6J=1Oqo&Y*TnsZWixMOVKhi6ZFNqQ87"
    b"#M76V`Xl0Wj#kwOaLGoEC2u+$(>yQ0RjUA1qKHQ2?`4g4Gs?w5fT#=6&4p585$cL9UdPbAtECrB_<~TE365OMIZ>Q2>~)@H!z?8J+28e"
    b"Gr9yYFdz!72?AeYY-"
    b"=tc02aInAOHwl4tyj47G0Pzm30K!4wPNu==DzLfy{OGHrP;^30k877FuTmZ<|yNYmW=!5g;2p4l3^e7o0sH6>SbOY-k_|ZVogu>~0`4Y"
    b"z_e}aARp8002a64t#SU00;~K02bNzI2X=t5sfBFt!%d4ArG&Vtkchu!H^?-"
    b"u^(L!jPhA9COJ5>aG@$J5+EBd0Cu0CAQc=FoRT029uqY*CY&lDGaM5EUv6b|AOHXWaU2sM00_Jnd?WxC@kl?FsSTa-"
    b"@i5j8&jh`b^$O;d6xxhsoZ_(z%-ZYukkObpu-EJhARC+)D(?W7fsP;*%oii<LLdmv7dAH_2Mt4HB1|l703ZZhIRS2VZDo|bAOH~jLTpV"
    b"S00000j|>0+7R#2z+pWGAB9_%7N<y+sYozAwB<y2qiol^K9$024k~pgPPFMwPk1A{%AR8|LsO``o6<r)PY}X(NUK}@JAO^ivG9V3J9AR"
    b"iBG)Eu+00000#9SO801ON-02Y+Gm#&KyL@wgnVH%OY<CJN0I+91#kE6v<7%&5JRbSFI@fa!lIE)}0+#o9N0OU-zAQcQD0yZ!(Ffbqn3?"
    b"TtAF*G?N%pqt7e+DoxFeA)&%mFGH0AcU}004@0b8;_YX>KoJ05|Xw5W{eKkhBFt53y-"
    b"?p5L{(G$aKTe^jw9u42(1h<>nkZ5Vg>#_#fLP!O*%chO<zm4~Nh>@eg5bXcj7T&;(_On2g#KPPlt%bGC-"
    b"E|g61vLNcB$NL+7K0kBx6t8X#lT{$yOd&^eh6eJ#e#Zg{;LQc@S0L@Yx;o6}atKPcN&LLzn>fAf`p!zd5)h9$9=rz*gXkCvYt-"
    b"~QD*yb`!7liaS5<ZBCgRKL?t-"
    b"r@eQ9j;YnOZp3iRPd_Ruj9tA_916Q1h2!+H(gj`Gv7l3o)6%2!Yy;L4hR(agb7P(nfySC8QSv3p9TS<Rm)m`fBUe;WgIl-"
    b"(Qw%xd4sbkTB}5&j?u*Ei_(7uKHE@qxV>MJa+_c|}=qvKrw9s<PIj5DN&14-"
    b"Y~uyEgljv&(HlPk}tDrL#!%lM9JE{xgqduBEAI(r|+na<4$!NK)%`w@*65Vu%tI;~vv2t36iLSO>4h1vOaC@RF%9b}6#|TIM$eD>yl2o"
    b"Ou2D9SW*qegLBv5Bql9Hvk|23_uSc000000000000000000000000000000000000000000000000000000000000000000000000000"
    b"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    b"000000000000000002r(U4FCWD00000000000000003ZMW0000000000000000000000000000000000000000000000000000000000"
    b"00000000000000000000000000000000000000000000000000000000000000000000000000000000000O<e#001pF@DdQiaC(rm1w"
    b"s$8X?LFAwYfAT1r>i(u`aG+(H@9?uy$=2clgHd@@r5KuQ7MgVds^Hr)KOh<O6hAsgPW)hrLX9;+Q`tbX?1tF$FG^O!2ZH>Y~T{8+|@Mb"
    b"MzFiZVi)FAl*zMM{|Y-^1pt^0tw*F1@2cM?Yz1=%;s_kO14S-"
    b"yyTlWz3lqVO1%;gk2xN^2M&Yi7z%6D^g1g4{L{fM_>fmsb?7GI%j)ieuPl9OZ1iiFd<hEl;YRk*F%YYU@7@!h>bk>v4c?CO)3K6X69UR"
    b"tP#@sRnt##E!BJ2`LK0Vx;Qq0DN~KxNpD3716efQg19X(#90AN~-"
    b"^p~*a+(qTAPCnt==B%Yp4Rb!y&6R+f?jz=S#h!&;RUL))}s&$2#5~=00000RUq9=AxCqD2J*jt#~?N^0|x*A05CT&H!v|Up#V2{00B5L"
    b"VKjUIF$@6w1TJX+IKToneE?$I0|+owQb9>fMN%OlArL#9)&K$k000000000000000000000000H00000000"
)


def packed_by_others() -> bytes:
    """An archive with long runs, near and far repetitions, and what cannot be packed."""
    source = random.Random(7)
    files = {}
    for number, name in enumerate(["virtio", "virtio_blk", "virtio-pci", "virtio_net", "nvme", "ahci"]):
        noise = source.randbytes(40) + b"license=GPL\0" * 6 + source.randbytes(3) + bytes(range(40))
        files[f"usr/lib/modules/6.1.0/kernel/drivers/{name}.ko"] = b"\x7fELF" + bytes(300 * (number + 1)) + noise
    far = source.randbytes(400)
    files["usr/bin/a"] = far + bytes(70000) + far[:300] + bytes(5) + far[100:200]
    return cpio(files)


def lz4_legacy(data: bytes) -> bytes:
    """A legacy frame whose one block has literals only."""
    length = len(data)
    token = bytes([min(length, 15) << 4])
    more = b"\xff" * ((length - 15) // 255) + bytes([(length - 15) % 255]) if length >= 15 else b""
    block = token + more + data
    return lz4.MAGIC + len(block).to_bytes(4, "little") + block


def see(data: bytes) -> Initramfs:
    return read_initramfs(lambda offset, length: data[offset : offset + length], len(data))


def plain(data: bytes) -> bytes:
    return data


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": plain,
    "gzip": gzipped,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(level=19).compress,
    "lz4": lz4_legacy,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("front", [b"", early(), early() + early()])
@pytest.mark.parametrize("behind", [b"", bytes(3), bytes(70_000)])
def test_every_packing_is_read(packing: str, front: bytes, behind: bytes) -> None:
    found = see(front + PACKINGS[packing](initramfs("6.1.0", "virtio_blk", "nvme")) + behind)
    assert found.problem is None
    assert found.names[-3:] == [
        "init",
        "usr/lib/modules/6.1.0/kernel/drivers/virtio_blk.ko",
        "usr/lib/modules/6.1.0/kernel/drivers/nvme.ko",
    ]
    assert len(found.names) == 3 + 2 * (len(front) // len(early()))


@pytest.mark.parametrize("data", [LZ4, LZOP_9, LZOP_1], ids=["lz4", "lzop -9", "lzop -1"])
def test_what_other_programs_packed_is_unpacked(data: bytes) -> None:
    compression = find_compression(data[:9])
    assert compression is not None
    packed = PackedInput(lambda offset, length: data[offset : offset + length])
    assert b"".join(unpack(compression, packed)) == packed_by_others()
    assert packed.position == len(data)
    found = see(early() + data + bytes(512) + gzipped(cpio({"last": b""})))
    assert (len(found.names), found.names[-1], found.problem) == (2 + 7 + 1, "last", None)


@pytest.fixture(scope="module")
def libraries() -> dict[str, bytes]:
    """Eight files of machine code, of at most 1 MiB, by their names."""
    found: dict[str, bytes] = {}
    for path in Path(sys.prefix).rglob("*.so"):
        found[path.stem] = path.read_bytes()[: 1 << 20]
        if len(found) == 8:
            break
    return found


@pytest.mark.parametrize(
    ("command", "most"),
    [
        ("cat", 1 << 20),
        ("gzip -9", 1 << 20),
        ("xz --check=crc32 --lzma2=dict=1MiB", 1 << 18),
        ("xz -9", 1 << 18),
        ("zstd -19", 1 << 18),
        ("lz4 -l -9", 1 << 20),  # more than one of its blocks, which have 8 MiB
        ("bzip2", 1 << 18),
        ("lzma", 1 << 18),
        ("lzop", 1 << 20),
    ],
)
def test_we_list_what_cpio_lists(command: str, most: int, libraries: dict[str, bytes], tmp_path: Path) -> None:
    """Other people's programs make the archive, pack it, and list it."""
    if missing := [program for program in ("cpio", command.split(maxsplit=1)[0]) if shutil.which(program) is None]:
        pytest.skip(f"cannot run here: {', '.join(missing)} is not installed")
    folder = tmp_path / "usr/lib/modules/6.1.0/kernel"
    folder.mkdir(parents=True)
    for name, code in libraries.items():
        (folder / f"{name}.ko").write_bytes(code[:most])
    (tmp_path / "lib").symlink_to("usr/lib")
    names = b"\n".join(str(path.relative_to(tmp_path)).encode() for path in sorted(tmp_path.rglob("*")))
    pack = ["cpio", "-o", "-H", "newc", "--quiet"]
    archive = subprocess.run(pack, input=names, cwd=tmp_path, capture_output=True, check=True).stdout
    words = command.split() + ([] if command == "cat" else ["-c"])
    data = subprocess.run(words, input=archive, capture_output=True, check=True).stdout
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=archive, capture_output=True, check=True).stdout
    found = see(early() + data + bytes(100))
    assert found.problem is None
    assert found.names[2:] == listed.decode().split()
    assert len(found.names) > 10


@pytest.mark.parametrize("first", PACKINGS)
@pytest.mark.parametrize("second", PACKINGS)
def test_archives_follow_one_another(first: str, second: str) -> None:
    found = see(PACKINGS[first](cpio({"a": b"1"})) + bytes(8) + PACKINGS[second](cpio({"b": b""}) + cpio({"c": b"x"})))
    assert (found.names, found.problem) == (["a", "b", "c"], None)


@pytest.mark.parametrize("packing", ["gzip", "zstd", "xz", "bzip2"])
def test_one_archive_may_be_packed_in_pieces(packing: str) -> None:
    whole = packed_by_others()
    data = b"".join(PACKINGS[packing](whole[at : at + 1000]) for at in range(0, len(whole), 1000))
    found = see(data)
    assert (len(found.names), found.problem) == (7, None)


def test_the_contents_of_a_plain_archive_are_jumped_over() -> None:
    found = see(cpio({"a": bytes(10 << 20), "./b": b"", "/c": b""}))
    assert (found.names, found.problem) == (["a", "b", "c"], None)
    assert found.bytes_read < 512 << 10


def test_names_need_not_be_text() -> None:
    assert see(cpio({"a\udcff\x1b": b""})).names == ["a\ufffd\x1b"]


def test_nothing_is_no_problem() -> None:
    assert see(b"") == Initramfs()
    assert see(bytes(100_000)).names == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"hello world", "it has neither an archive nor packed data that we know at offset 0"),
        (early() + b"hello", f"it has neither an archive nor packed data that we know at offset {len(early()):,}"),
        (gzipped(b"hello"), "what it has packed at offset 0 is no archive"),
        (gzipped(initramfs("6.1.0", "nvme"))[:100], "it ends in the middle of its packed data"),
        (lzma.compress(initramfs("6.1.0", "nvme"))[:-20], "it ends in the middle of its packed data"),
        (PACKINGS["zstd"](initramfs("6.1.0", "nvme"))[:-20], "it ends in the middle of its packed data"),
        (LZ4[:-20], "it ends in the middle of its packed data"),
        (LZOP_9[:-20], "it ends in the middle of its packed data"),
        (initramfs("6.1.0", "nvme")[:200], "it is cut short behind 1 names"),
        (gzipped(initramfs("6.1.0", "nvme")[:200]), "it is cut short behind 1 names"),
        (b"070701" + b"f" * 200, "it has a name of 4,294,967,295 bytes, and Linux takes 4,096"),
        (b"070701" + b"0" * 48 + b"zz" * 40, "it is damaged at offset 0 of an archive, behind 0 names"),
        (b"070707" + b"0" * 200, "it is damaged at offset 0 of an archive, behind 0 names"),
        (b"\x28\xb5\x2f\xfd" + bytes(range(200)), "its packed data is damaged (ZstdError)"),
        (lz4.MAGIC + b"\x05\0\0\0\x0f\x01\x00\x00\x00", "its LZ4 data is damaged"),
        (lz4.MAGIC + b"\x02\0\0\0\xf0\xff", "its LZ4 data is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_what_is_damaged_is_said(data: bytes, problem: str) -> None:
    assert see(data).problem == problem


def test_names_before_the_damage_are_kept() -> None:
    found = see(initramfs("6.1.0", "nvme") + b"nonsense")
    assert len(found.names) == 2
    assert found.problem is not None


def test_what_is_beyond_the_limit_is_not_read() -> None:
    data = early() + zstandard.compress(cpio({"a": random.Random(1).randbytes(4 << 20)}))
    found = read_initramfs(lambda offset, length: data[offset : offset + length], len(data), limit=2 << 20)
    assert found.problem == "only 1 MiB of its 4 MiB were looked at"
    assert found.names == ["kernel", "kernel/x86/microcode/GenuineIntel.bin", "a"]
    assert found.bytes_read <= 2 << 20


@pytest.mark.parametrize("packing", ["gzip", "xz", "bzip2", "zstd"])
def test_a_bomb_ends_at_the_limit(packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_INITRAMFS_UNPACKED", 32 << 20)
    bomb = PACKINGS[packing](cpio({"a": b""}) + bytes(40 << 20))
    assert len(bomb) < 1 << 20
    found = see(bomb)
    assert (found.names, found.problem) == (["a"], "it unpacks to more than 32 MiB")


def test_a_bomb_of_many_frames_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_INITRAMFS_UNPACKED", 32 << 20)
    # A block of zstd that repeats one byte 131,071 times takes four bytes; 4,096 of them make a frame.
    block = (131_071 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    bomb = b"\x28\xb5\x2f\xfd\x00\x58" + block * 4096
    assert see(bomb).problem == "it unpacks to more than 32 MiB"


def test_too_many_names_end_it() -> None:
    header = b"070701" + b"0" * 88 + b"00000002" + b"0" * 8 + b"a\0"
    found = see(gzipped(header * (MAX_INITRAMFS_NAMES + 1)))
    assert (len(found.names), found.problem) == (MAX_INITRAMFS_NAMES, "it has more than 100,000 names")


def test_unpacking_ends_with_its_time() -> None:
    data = gzipped(cpio({"a": b""}))
    found = read_initramfs(lambda offset, length: data[offset : offset + length], len(data), seconds=-1)
    assert (found.names, found.problem) == ([], "this and others before take more than 3 s")


SEEDS = [pack(initramfs("6.1.0", "virtio_blk", "nvme")) for pack in PACKINGS.values()] + [LZ4, LZOP_9, LZOP_1]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0), st.binary(min_size=1, max_size=12), st.integers(0, 4000))
def test_any_damage_gives_names_or_a_problem(seed: bytes, place: int, bytes_there: bytes, length: int) -> None:
    place %= len(seed)
    started = time.process_time()
    data = seed[:place] + bytes_there + seed[place + len(bytes_there) :]
    found = see(data[: max(length, place + 12)])
    assert found.problem is None or found.problem.isprintable()
    assert all(len(name) <= 4096 for name in found.names)
    assert time.process_time() - started < 5


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_block_is_unpacked_or_refused(data: bytes) -> None:
    with suppress(GuestError):
        assert len(lz4.unpack_block(data)) <= lz4.MAX_BLOCK
    with suppress(GuestError):
        assert len(lzo.unpack_block(data, 5000)) == 5000


def test_a_block_that_grows_beyond_measure_is_refused() -> None:
    # One literal, then a match of distance 1 as long as 40,000 bytes of 255 can say.
    with pytest.raises(GuestError, match="LZ4"):
        lz4.unpack_block(b"\x1fa\x01\x00" + b"\xff" * 40_000 + b"\x00")
