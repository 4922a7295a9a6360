# SPDX-License-Identifier: Apache-2.0
"""Layouts that datasets come in: pairs are found by their names, or the dataset is refused; they are never classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_unlearnable.data import list_dataset
from monai_unlearnable.errors import DatalistError, LabelError
from tests.data.test_datalist import touch

Pairs = list[tuple[tuple[str, ...], str | None]]


def pairs(root: Path, section: str = "training") -> Pairs:
    return [(case.images, case.label) for case in list_dataset(root, section=section).cases]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        *[("images", name) for name in ("labels", "masks", "seg", "gt", "ground truth", "Ground_Truth", "GroundTruth")],
        *[("images", name) for name in ("annotations", "Annotation", "segmentations", "labelmaps", "msk", "SEG")],
        *[(name, "mask") for name in ("image", "img", "Imgs", "scan", "SCANS", "original", "originals", "ct", "MR")],
        ("JPEGImages", "SegmentationClass"),
        ("imagesTr", "labelsTr"),
        ("lung_images", "lung_masks"),
        ("images_512", "masks_512"),
        ("data/image", "data/mask"),
        ("Segmentation/image", "Segmentation/mask"),
        ("site/2/images", "site/2/labels"),
        ("images/site2", "labels/site2"),
        ("siteA/CT/images", "siteA/CT/labels"),
        ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
    ],
)
def test_folders_of_images_and_of_labels(tmp_path: Path, images: str, labels: str) -> None:
    touch(tmp_path, *[f"{folder}/{name}.png" for folder in (images, labels) for name in ("a", "b")])
    assert pairs(tmp_path) == [((f"{images}/{name}.png",), f"{labels}/{name}.png") for name in ("a", "b")]
    told = f"folders {images}/ and {labels}/".replace("/site2", "")
    assert list_dataset(tmp_path).source == told


@pytest.mark.parametrize(
    ("image", "label"),
    [
        *[("{}.nii.gz", f"{{}}{suffix}.nii.gz") for suffix in ("_seg", "_mask", "_segmentation", "-label", "_label")],
        *[("{}.nii.gz", f"{{}}{suffix}.nii.gz") for suffix in (".gt", "_Mask", "_lesion_mask", " seg", "_labels")],
        ("{}_img.nii.gz", "{}_seg.nii.gz"),
        ("{}.nrrd", "{}.seg.nrrd"),
        ("CXR_png/{}.png", "masks/{}_mask.png"),
        ("CT_{}.nii.gz", "seg_{}.nii.gz"),
        ("images/{0}/{0}.nii.gz", "labels/{0}.nii.gz"),
        ("images/{}/t1.nii.gz", "masks/{}/mask.nii.gz"),
        ("RawData/Training/img/img{}.nii.gz", "RawData/Training/label/label{}.nii.gz"),
        ("Dataset_with_GT/benign/benign ({}).png", "Dataset_with_GT/benign/benign ({})_mask.png"),
        ("Case{}.mhd", "Case{}_segmentation.mhd"),
        ("segmentation/volume-{}.nii", "segmentation/segmentation-{}.nii"),
        ("{}_image.nii.gz", "{}_label.nii.gz"),
        ("volume-{}.nii", "segmentation-{}.nii"),
        ("img{}.png", "mask{}.png"),
        ("train_img_{}.png", "train_mask_{}.png"),
        ("all/{}.png", "all/{}_mask.png"),
        ("images/{}.png", "masks/{}_mask.png"),
        ("images/{}.jpg", "labels/{}_segmentation.png"),
        ("images/img_{}.png", "labels/label_{}.png"),
        ("images/{}_T1w.nii.gz", "labels/{}.nii.gz"),
        ("images/mask_of_{}.png", "labels/mask_of_{}.png"),
        ("{}.nii.gz", "masks/{}.nii.gz"),
        ("{}/image.nii.gz", "{}/label.nii.gz"),
        ("case_{}/imaging.nii.gz", "case_{}/segmentation.nii.gz"),
        ("{}/{}.nii.gz", "{}/{}_seg.nii.gz"),
        ("patient{}/t1.nii.gz", "patient{}/seg.nii.gz"),
        ("patient{}/ct/scan.nii.gz", "patient{}/mask/scan.nii.gz"),
        ("patient{}/t1.nii.gz", "labels/patient{}.nii.gz"),
        ("HGG/BraTS{}/BraTS{}_t1.nii.gz", "HGG/BraTS{}/BraTS{}_seg.nii.gz"),
    ],
)
def test_names_of_files_tell_labels_from_images(tmp_path: Path, image: str, label: str) -> None:
    expected = [((image.format(*2 * [name]),), label.format(*2 * [name])) for name in ("001", "002")]
    touch(tmp_path, *[name for (images, label) in expected for name in (*images, label)])
    assert sorted(pairs(tmp_path)) == expected


@pytest.mark.parametrize(
    ("image", "label", "channels"),
    [
        ("{0}/{0}_{1}.nii.gz", "{0}/{0}_seg.nii.gz", ("flair", "t1", "t1ce", "t2")),
        ("{0}/{0}-{1}.nii.gz", "{0}/{0}-seg.nii.gz", ("t1c", "t1n", "t2f", "t2w")),
        ("{0}/{1}.nii.gz", "{0}/seg.nii.gz", ("t1", "t2")),
        ("sub-{0}/sub-{0}_{1}.nii.gz", "sub-{0}/sub-{0}_mask.nii.gz", ("adc", "dwi")),
        ("{0}/{1}.nii.gz", "labels/{0}.nii.gz", ("t1", "t2")),
        ("imagesTr/{0}_{1}.nii.gz", "labelsTr/{0}.nii.gz", ("0000", "0001")),
        ("{0}/{1}_image.nii.gz", "{0}/mask.nii.gz", ("adc", "dwi")),
        ("{1}/{0}.nii.gz", "labels/{0}.nii.gz", ("T1", "T2")),
        ("images/{1}_{0}.nii.gz", "labels/{0}.nii.gz", ("flair", "t1")),
    ],
)
def test_several_images_of_a_label_are_channels(
    tmp_path: Path, image: str, label: str, channels: tuple[str, ...]
) -> None:
    expected = [(tuple(image.format(case, c) for c in channels), label.format(case)) for case in ("P_1", "P_2")]
    touch(tmp_path, *[name for images, label in expected for name in (*images, label)])
    found = list_dataset(tmp_path)
    assert pairs(tmp_path) == expected
    assert found.source.endswith(f", channels {', '.join(channels)}")
    assert len({case.case_id for case in found.cases} - {Path(c).stem for c in channels}) == 2
    (tmp_path / image.format("P_2", channels[1])).unlink()
    with pytest.raises(DatalistError, match=r"the same images as channels, but .*P_1.*P_2.*datalist\.json"):
        list_dataset(tmp_path)


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ("train/{}/{}.png", "test/{}/{}.png"),
        ("Training/{}/{}.png", "Testing/{}/{}.png"),
        ("{}/train/{}.png", "{}/val/{}.png"),
        ("{}Tr/{}.png", "{}Ts/{}.png"),
        ("train_{}/{}.png", "test_{}/{}.png"),
        ("set/train_set/{}/{}.png", "set/test_set/{}/{}.png"),
        ("trainset/{}/{}.png", "testset/{}/{}.png"),
        ("TrainDataset/{}/{}.png", "TestDataset/Kvasir/{}/{}.png"),
    ],
)
def test_sections_are_folders(tmp_path: Path, training: str, test: str) -> None:
    section = "validation" if "val" in test else "test"
    lists = {
        kind: [((pattern.format("images", name),), pattern.format("labels", name)) for name in "ab"]
        for kind, pattern in (("training", training), (section, test))
    }
    touch(tmp_path, *[name for found in lists.values() for images, label in found for name in (*images, label)])
    for kind, expected in lists.items():
        assert pairs(tmp_path, kind) == expected
    others = {item.reason for item in list_dataset(tmp_path).passed_over}
    assert others == {f"of the section {section!r}"}


@pytest.mark.parametrize("kinds", [("images", "masks"), ("",)])
def test_folders_that_may_be_sections_are_never_taken_for_training_or_classes(
    tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    touch(tmp_path, *(f"{part}/{kind}/a.png" for part in ("stage1_train", "stage1_test") for kind in kinds))
    message = r"stage1_test\S*, stage1_train\S* may hold the sections test, training; call them train and test"
    with pytest.raises(DatalistError, match=message):
        list_dataset(tmp_path)


@pytest.mark.parametrize("pattern", ["{}/{}/{}.png", "data/{}/{}/{}.png"])
def test_classes_are_numbered_over_all_sections(tmp_path: Path, pattern: str) -> None:
    kinds = {"train": ("glioma", "meningioma", "none"), "Testing": ("glioma", "none")}
    touch(tmp_path, *[pattern.format(section, kind, f"{kind}1") for section, found in kinds.items() for kind in found])
    for section, targets in (("training", [0, 1, 2]), ("test", [0, 2])):
        found = list_dataset(tmp_path, section=section)
        assert [case.target for case in found.cases] == targets
        assert found.source == "a folder for each of 3 classes"


def test_pairs_inside_folders_that_look_like_classes(tmp_path: Path) -> None:
    names = [
        f"{kind}/{kind} ({n}){word}.png" for kind in ("benign", "normal") for n in (1, 2) for word in ("", "_mask")
    ]
    touch(tmp_path, *names)
    assert pairs(tmp_path) == [((names[i],), names[i + 1]) for i in range(0, 8, 2)]
    assert list_dataset(tmp_path).source == "label maps named mask"
    touch(tmp_path, "benign/benign (1)_mask_1.png")
    with pytest.raises(DatalistError, match="are labels of one image, benign/benign \\(1\\).png; merge them"):
        list_dataset(tmp_path)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["image/a1.png", "image/a2.png", "mask/b1.png", "mask/b2.png"], "2 like images .*but no names pair"),
        (["with_mask/1.png", "without_mask/2.png"], "look like label maps .* none like images"),
        (["masks/1.png", "labels/2.png"], "look like label maps .* none like images"),
        (["images/1.png", "scans/2.png"], "has no label"),
        (["images/a.png", "images/a_b.png", "labels/a.png"], "images/a_b.*has no label"),
        (["patient01/t1.nii.gz", "patient02/t1.nii.gz"], "patient01, patient02 look like patients"),
        (["P/P.nii.gz", "Q/Q.nii.gz"], "P, Q look like patients"),
        (["1/x.png", "2/y.png", "10/z.png"], "1, 10, 2 look like patients"),
        (["Ann/t1.nii.gz", "Ann/tumor.nii.gz", "Bo/t1.nii.gz", "Bo/tumor.nii.gz"], "Ann, Bo look like patients"),
        (["A/A_t1.nii.gz", "B/B_t1.nii.gz"], "A, B look like patients"),
        (["BraTS_001/x.nii.gz", "BraTS_002/y.nii.gz", "BraTS_003/z.nii.gz"], "look like patients"),
        (["1/wmh.nii.gz", "2/wmh.nii.gz", "3/wmh.nii.gz"], "1, 2, 3 look like patients"),
        (
            ["a/1.png", "b/1.png", "a/x/1.png", "a/x/2.png", "b/x/3.png"],
            "most scans lie deeper than in the folders a, b",
        ),
        (
            ["s1/ct.nii.gz", "s1/segmentations/liver.nii.gz", "s1/segmentations/lung.nii.gz"],
            "no names pair.*merge those",
        ),
        (["T1/a.nii.gz", "T2/a.nii.gz"], "called like modalities and hold the same names"),
        (["images/a.png", "lung_masks/a.png", "heart_masks/a.png"], "are labels of one image, images/a.png; merge"),
        (["images/a.png", "masks/a/0.png", "masks/a/1.png"], "are labels of one image"),
        (["images/a.png", "scans/a.png", "masks/a.png"], "are both images of masks/a.png"),
        (["images/a_1.png", "images/b.png", "labels/a.png", "labels/b.png"], "must have the same images"),
        (["sub-01/anat/sub-01_T1w.nii.gz"], "BIDS dataset holds images, but no label map"),
        (
            ["test/x/a.png", "test/y/b.png"],
            "no scan is of the section 'training'; folders tell of test. Give the folder",
        ),
        (["one/a.png", "one/b.png"], "no cases found"),
        (["x/datalist.json", "x/images/a.png", "x/labels/a.png"], "dataset of its own; give the folder x as the"),
        (["a.mnc", "README.md"], "no cases found in section 'training': 0 files or series, and 2 other files"),
    ],
)
def test_what_cannot_be_understood_is_refused(tmp_path: Path, names: list[str], reason: str) -> None:
    with pytest.raises((DatalistError, LabelError), match=reason):
        list_dataset(touch(tmp_path, *names))


def test_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "labels/a.png", "labels/b.png", "figures/x.png")
    reasons = {item.name: item.reason for item in list_dataset(tmp_path).passed_over}
    assert reasons == {
        "figures/x.png": "not among the cases of folders images/ and labels/",
        "labels/b.png": "a label without an image",
    }
    touch(tmp_path, "images/c.png")
    with pytest.raises(LabelError, match=r"images/c, .*c\.png: the case has no label; add it, .* or list the cases"):
        list_dataset(tmp_path)


def test_a_folder_of_labels_beside_those_that_pair_is_refused(tmp_path: Path) -> None:
    """Fields of view pair by name, the vessels that are meant do not."""
    drive = [f"training/{name}" for name in ("images/21_training.png", "mask/21_training_mask.png")]
    touch(tmp_path / "drive", *drive, "training/1st_manual/21_manual1.png")
    reason = r"mask/21_training_mask\.png and .*1st_manual/21_manual1\.png may be labels of one image.*merge them"
    with pytest.raises(DatalistError, match=reason):
        list_dataset(tmp_path / "drive")
    touch(tmp_path / "patients", "p1/ct/a.png", "p1/mask/a.png", "p2/mask/a.png")
    assert pairs(tmp_path / "patients") == [(("p1/ct/a.png",), "p1/mask/a.png")]


def test_other_images_of_a_patient_are_passed_over(tmp_path: Path) -> None:
    """The Automated Cardiac Diagnosis Challenge has two labeled frames a patient, and the whole sequence."""
    frames = [f"patient001/patient001_frame{n}{end}.nii.gz" for n in ("01", "12") for end in ("", "_gt")]
    touch(tmp_path, *frames, "patient001/patient001_4d.nii.gz", "patient001/Info.cfg")
    assert pairs(tmp_path) == [((frames[0],), frames[1]), ((frames[2],), frames[3])]
    reasons = {item.name: item.reason for item in list_dataset(tmp_path).passed_over}
    assert reasons == {
        "patient001/Info.cfg": "no scan: .cfg",
        "patient001/patient001_4d.nii.gz": "an image without a label",
    }


def test_bids(tmp_path: Path) -> None:
    images = [f"sub-{n}/ses-1/anat/sub-{n}_ses-1_T1w.nii.gz" for n in ("01", "02", "03")]
    flair = "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz"
    labels = [f"derivatives/manual/sub-{n}/ses-1/anat/sub-{n}_ses-1_T1w_label-lesion_mask.nii.gz" for n in ("01", "02")]
    derived = "derivatives/prep/sub-01/anat/sub-01_ses-1_desc-preproc_T1w.nii.gz"
    touch(tmp_path, *images, flair, *labels, derived, "dataset_description.json", "sub-01/ses-1/anat/sub-01_T1w.json")
    assert pairs(tmp_path) == [((images[0],), labels[0]), ((images[1],), labels[1])]
    found = list_dataset(tmp_path)
    assert found.source == "BIDS, T1w with labels in derivatives/"
    reasons = {item.name: item.reason for item in found.passed_over}
    assert reasons[flair] == "not the image that the label of the session is of"
    assert reasons[images[2]] == "an image without a label"
    assert reasons[derived] == "derived from an image, and no label"
    touch(tmp_path, "sub-02/ses-1/func/sub-02_ses-1_task-rest_bold.nii.gz")
    (tmp_path / labels[1]).rename(tmp_path / "derivatives/manual/sub-02/ses-1/anat/sub-02_ses-1_mask.nii.gz")
    assert pairs(tmp_path)[1][0] == (images[1],), "of the images in anat/ as the label"
    (tmp_path / labels[0]).rename(tmp_path / "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_mask.nii.gz")
    with pytest.raises(DatalistError, match="sub-01_ses-1 has 2 images: .* does not say which one it is of; list"):
        list_dataset(tmp_path)
    (tmp_path / flair).unlink()
    assert len(pairs(tmp_path)) == 2
    touch(tmp_path, "derivatives/other/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz")
    with pytest.raises(DatalistError, match="sub-01_ses-1 has 2 label maps: .*; list the cases"):
        list_dataset(tmp_path)


def test_lists_of_nnunet_name_images_without_their_channels(tmp_path: Path) -> None:
    channels = [f"imagesTr/a_{n:04}.nii.gz" for n in range(2)]
    touch(tmp_path, *channels, "imagesTr/b.nii.gz", *[f"labelsTr/{case}.nii.gz" for case in "ab"])
    entries = ", ".join(f'{{"image": "./imagesTr/{c}.nii.gz", "label": "./labelsTr/{c}.nii.gz"}}' for c in "ab")
    (tmp_path / "dataset.json").write_text(f'{{"training": [{entries}], "test": ["./imagesTs/c.nii.gz"]}}')
    cases = list_dataset(tmp_path).cases
    assert [(case.case_id, case.images) for case in cases] == [
        ("imagesTr/a", tuple(channels)),
        ("imagesTr/b", ("imagesTr/b.nii.gz",)),
    ]
