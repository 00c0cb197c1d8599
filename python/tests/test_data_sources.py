"""The digits: real ones, split in proportion and always the same way. And archives that nobody packed for images."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile

import numpy as np
import pytest
from active_convolution.data import sources
from active_convolution.errors import UserError
from limits import limited
from sklearn.datasets import load_digits


def as_rows(images):
    return sorted(map(tuple, images.reshape(len(images), -1)))


def test_every_digit_is_in_one_of_the_two_parts():
    data = sources.read_digits()
    assert data.train.images.shape == (1500, 1, 8, 8) and data.test.images.shape == (297, 1, 8, 8)
    together = np.concatenate([data.train.images, data.test.images])
    assert together.dtype == np.float32 and together.min() == 0 and together.max() == 1
    assert as_rows(together * 16) == as_rows(load_digits().images)


def test_images_keep_their_labels():
    original = load_digits()
    label_of = {image.tobytes(): label for image, label in zip(original.images, original.target)}
    for images, labels in sources.read_digits()[2:]:
        assert [
            label_of[image.astype(np.float64).tobytes()] for image in images * 16
        ] == labels.tolist()


def test_split_is_in_proportion_and_fixed():
    first, again, other = (
        sources.read_digits(),
        sources.read_digits(),
        sources.read_digits(split_seed=1),
    )
    share = np.bincount(first.test.labels) / np.bincount(load_digits().target)
    np.testing.assert_allclose(share, 297 / 1797, atol=0.005)
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert not np.array_equal(first.test.images, other.test.images)


def test_every_fold_tests_on_images_of_its_own():
    folds = [sources.read_digits(fold=fold) for fold in range(1, sources.DIGITS_FOLDS + 1)]
    assert all(
        data.train.images.shape == (1498, 1, 8, 8) and data.test.images.shape == (299, 1, 8, 8)
        for data in folds
    )
    for data in folds:
        assert as_rows(np.concatenate([data.train.images, data.test.images]) * 16) == as_rows(
            load_digits().images
        )
        assert np.bincount(data.test.labels).min() >= 28  # of each digit, in proportion
    tested = np.concatenate([data.test.images for data in folds])
    assert len(np.unique(tested, axis=0)) == 6 * 299  # no two of the 1,797 are equal


def test_digits_are_enlarged_bilinearly():
    small, large = sources.read_digits(fold=2).test, sources.read_digits(fold=2, size=(32, 16)).test
    assert large.images.shape == (299, 1, 16, 32) and large.labels.tolist() == small.labels.tolist()
    # twice as high: a row a quarter of a pixel from the one before
    between = 0.75 * small.images[:, :, 3] + 0.25 * small.images[:, :, 4]
    np.testing.assert_allclose(large.images[:, :, 7, 0], between[:, :, 0], atol=1e-6)


# ---- Archives that unpack to more than they should

_READ = """
import sys
from active_convolution.data.sources import open_source
from active_convolution.errors import UserError
try:
    with open_source(sys.argv[1]) as source:
        print(sum(len(data) for _, data in source.read(source.names)))
except UserError as error:
    print(error)
"""


def member(name, size, **fields):
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = size, fields
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_small_file_that_unpacks_to_gigabytes(tmp_path, pack):
    """8 GB of zeros in one of a megabyte or some: each format lets packed files follow one another."""
    path = tmp_path / "images.tar"
    path.write_bytes(pack(member("a.png", 2**33)) + 128 * pack(bytes(2**26)))
    assert path.stat().st_size < 10**7
    assert limited(_READ, path).startswith(
        f"{path} unpacks to more than 100 times its size, which is no archive of images"
    )


@pytest.mark.slow
def test_a_sparse_member_of_a_terabyte(tmp_path):
    """Of which the archive holds next to nothing: GNU tar writes such files so."""
    path, size = tmp_path / "images.tar", str(2**40)
    entry = member(
        "a.png",
        512,
        **{
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.name": "a.png",
            "GNU.sparse.numblocks": "1",
            "GNU.sparse.map": "0,512",
            "GNU.sparse.size": size,
        },
    )
    path.write_bytes(entry + bytes(512 + 1024))
    with tarfile.open(path) as archive:
        assert archive.getmember("a.png").size == 2**40
    assert (
        limited(_READ, path)
        == f"{path}: a.png is 1,048,576 MiB, more than an image or a batch of images takes: remove it"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "content, said",
    [
        (
            member("a.png", 2**40),
            "cannot read {} as a tar archive (unexpected end of data): it is truncated, damaged or something "
            "else; fetch it again",
        ),
        (
            bytes(1024),
            "cannot read {} as a tar archive (no end-of-archive mark): it is truncated, damaged or something else; fetch "
            "it again",
        ),
    ],
    ids=["claimed", "sparse"],
)
def test_a_file_with_a_terabyte_of_nothing(tmp_path, content, said):
    path = tmp_path / "images.tar"
    path.write_bytes(content)
    if not any(content):
        os.truncate(path, 2**40)
    assert limited(_READ, path) == said.format(path)


def test_a_hard_links_content_is_unpacked_once(tmp_path):
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"first"))
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.png")
            info.type, info.linkname = tarfile.LNKTYPE, "a.png"
            archive.addfile(info)
    with sources.open_source(tmp_path / "images.tar.gz") as source:
        found = list(source.read(source.names))
        assert len(found) == 4 and all(data is found[0][1] for _, data in found)


def test_links_in_a_tar(tmp_path):
    """A hard link is the file before it, be that one hidden or a link itself; all that is neither file nor folder is counted."""
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    links = [
        ("b.png", hard, "a.png"),
        ("c.png", hard, "b.png"),
        ("d.png", hard, ".hidden.png"),
        ("late.png", hard, "z.png"),
        ("own.png", hard, "own.png"),
        ("soft.png", soft, "a.png"),
        ("pipe.png", tarfile.FIFOTYPE, ""),
        ("to a pipe.png", hard, "pipe.png"),
        (".secret.png", soft, "a.png"),
    ]
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        for name, content in (("a.png", b"first"), (".hidden.png", b"second")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, kind, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        info = tarfile.TarInfo("z.png")
        archive.addfile(info)
    with sources.open_source(tmp_path / "images.tar") as source:
        assert dict(source.read(source.names)) == {
            "a.png": b"first",
            "b.png": b"first",
            "c.png": b"first",
            "d.png": b"second",
            "z.png": b"",
        }
        assert (source.hidden, source.special) == (2, 5)


def test_a_hard_link_to_what_is_too_large(tmp_path):
    path, link = tmp_path / "images.tar", tarfile.TarInfo("b.png")
    link.type, link.linkname = tarfile.LNKTYPE, "a.png"
    with open(path, "wb") as file:
        file.write(member("a.png", 2**29))
        file.seek(2**29, os.SEEK_CUR)
        file.write(link.tobuf() + bytes(1024))
    with (
        sources.open_source(path) as source,
        pytest.raises(UserError, match="b.png is 512 MiB, more than an image"),
    ):
        list(source.read(["b.png"]))


def test_links_in_a_zip_are_counted(tmp_path):
    link = zipfile.ZipInfo("b.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", b"first")
        archive.writestr(link, "a.png")
    with sources.open_source(tmp_path / "images.zip") as source:
        assert (source.names, source.special) == (["a.png"], 1)


@pytest.mark.parametrize("kind", ["zip", "tar archive"])
def test_a_member_without_a_name(tmp_path, kind):
    path = tmp_path / "images"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.png", b"")
        path.write_bytes(path.read_bytes().replace(b"a.png", b"\0.png"))
    else:
        path.write_bytes(member("", 0) + bytes(1024))
    with pytest.raises(
        UserError,
        match=rf"cannot read {path} as a {kind} \(a file in it has no name\): it is .*damaged",
    ):
        sources.open_source(path)
