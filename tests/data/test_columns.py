"""Columns of a CSV that ``data.drop`` leaves out, and tables as frames."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import fnnexp
from fnnexp.data.datasets import load, prepare
from fnnexp.data.sources import Reading, Source, columns_named
from fnnexp.errors import ConfigError, DataError

SPECIES = {"cat": (4, 25), "dog": (20, 60), "fish": (0.4, 8)}
EXTRA = ("id", "pet name", "notes")
"""The columns of the table of pets that are no inputs."""


@pytest.fixture(scope="module")
def pets():
    """Return a table with numbers of rows, names with commas, notes with gaps, two inputs, and labels."""
    rng = np.random.default_rng(5)
    species = rng.choice([*SPECIES], 90)
    return pd.DataFrame({
        "id": np.arange(1001, 1091),
        "pet name": rng.choice(["Rex", "Zoë", "Bo, jr.", "猫"], 90),
        "weight (kg)": [round(SPECIES[each][0] * rng.lognormal(), 2) for each in species],
        "notes": rng.choice(["", "old", "a" * 3000, "3"], 90),
        "height": [round(SPECIES[each][1] * rng.lognormal(0, 0.3), 1) for each in species],
        "species": species,
    })  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*files, **reading):
    prepared = prepare("files", *files, reading=Reading(**reading))
    arrays = load(prepared)
    return prepared, [getattr(arrays, name).tobytes() for name in ("x_train", "y_train", "x_test", "y_test")]


FORMS = {
    "commas": {},
    "semicolons, with BOM": {"sep": ";", "encoding": "utf-8-sig"},
    "tabs, UTF-16": {"sep": "\t", "encoding": "utf-16"},
    "quotes": {"quoting": 1},
    "packed": {"compression": "gzip"},
    "without a header": {"header": False},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_as_if_it_had_been_saved_without_the_columns(form, pets):
    options, file = FORMS[form], "pets.csv.gz" if form == "packed" else "pets.csv"
    pets.to_csv(file, index=False, **options)
    pets.drop(columns=[*EXTRA]).to_csv(f"few_{file}", index=False, **options)
    drop = EXTRA if options.get("header", True) else ("1", "2", "4")
    prepared, arrays = read(file, drop=drop)
    few, wanted = read(f"few_{file}")
    assert arrays == wanted
    assert (prepared.checksum, prepared.class_names) == (few.checksum, tuple(SPECIES))
    assert prepared.input_names == few.input_names
    assert prepared.directory != few.directory


def test_a_column_without_a_name_is_not_taken_for_the_one_with_its_number_as_name(pets):
    """A frame's index has no name in a CSV, and pandas numbers columns, so "1" may be the name of another."""
    inputs = pets[["weight (kg)", "height", "weight (kg)"]].set_axis([0, 1, 2], axis=1) * [1, 1, 2]
    inputs.assign(label=pets["species"]).to_csv("pets.csv")
    with pytest.raises(DataError, match=r"column 1 numbers .* write \"data.drop=''\" to leave"):
        fnnexp.images("pets.csv")
    assert [*fnnexp.images("pets.csv", drop="").columns] == ["label", "0", "1", "2"]
    assert [*fnnexp.images("pets.csv", drop=pd.Index(["", "1"])).columns] == ["label", "0", "2"]


def test_a_column_that_only_one_of_two_files_has_is_left_out_of_it(pets):
    train, test = pets[:60], pets[60:]
    train.drop(columns="id").to_csv("train.csv", index=False)
    test.drop(columns="notes").to_csv("test.csv", index=False)
    _, arrays = read("train.csv", "test.csv", drop=EXTRA)
    inputs = ["weight (kg)", "height"]
    assert [arrays[0], arrays[2]] == [part[inputs].to_numpy(np.float32).tobytes() for part in (train, test)]
    with pytest.raises(
        DataError, match=r"data\.drop=ID: train\.csv has no such column; .*species\. Did you mean 'id'"
    ):
        read("train.csv", "test.csv", drop=("ID", "notes"))


def test_keys_of_the_cache_change_only_with_columns_to_leave_out():
    source = Source("csv", (Path("pets.csv"),))
    old = "csv Reading(label=None, header='auto', test_fraction=0.2, transpose=False) named, numbered"
    assert source.content == old
    texts = {Source("csv", source.files, reading=Reading(drop=drop)).content for drop in ((), ("a",), ("b",))}
    assert len(texts) == 3


REFUSED = {
    "a similar name": ({"drop": ("Pet nam",)}, "it has id, pet name, .* 'pet name'"),
    "another name": ({"drop": ("row",)}, r"no such column; it has id, .*species\.$"),
    "the label": ({"drop": ("species",), "label": "species"}, "name the same column; omit one"),
    "all but the label": ({"drop": (*EXTRA, "weight (kg)", "height")}, "leaves species of the columns"),
    "a name without header": (
        {"drop": ("id",), "header": "false"},
        "are called 1 to 6; write data.drop=1",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_columns_that_cannot_be_left_out_are_refused(what, pets):
    reading, message = REFUSED[what]
    pets.to_csv("pets.csv", index=False)
    with pytest.raises(DataError, match=message):
        read("pets.csv", **reading)


def test_columns_are_left_out_of_tables_only(pets):
    np.savez("a.npz", x=np.arange(40).reshape(20, 2), y=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"data\.drop=id: this key is for \.csv files.*omit data\.drop"):
        read("a.npz", drop=("id",))
    with pytest.raises(DataError, match=r"so data\.label, data\.drop, .* have no meaning"):
        prepare("digits", reading=Reading(drop=("id",)))


STUDENTS = {
    "names and ids": lambda pets: pets,
    "an unnamed index": lambda pets: pets.reset_index().rename(columns={"index": ""}),
    "unnamed, empty columns": lambda pets: pets.assign(a="", b="").rename(columns={"a": "", "b": ""}),
    "a column twice": lambda pets: pets.assign(Height=1.5),
    "missing values": lambda pets: pets.assign(age=[None, *range(89)]),
    "a second label": lambda pets: pets.assign(target=pets["species"].str.upper()),
    "numbers of the classes": lambda pets: pets.assign(code=pets["species"].map([*SPECIES].index)),
    "quotes in a name": lambda pets: pets.rename(columns={"notes": "it's"}),
}


@pytest.mark.parametrize("header", ["true", "false"])
@pytest.mark.parametrize("what", STUDENTS)
def test_following_the_advice_of_messages_makes_a_table_readable(what, header, pets):
    table = STUDENTS[what](pets)
    table.insert(len(table.columns) - 1, "species", table.pop("species"))
    table.to_csv("pets.csv", index=False, header=header == "true")
    label, drop = "species" if header == "true" else "last", ()
    for _ in range(9):
        try:
            prepared, _ = read("pets.csv", label=label, drop=drop, header=header)
        except DataError as error:
            advice = re.findall(r"\b(?:write|or|as in) (\S*data\.drop=.*?)(?:\.$| to leave)", str(error))
            (word,) = shlex.split(advice[-1])  # as a shell reads it, and then Hydra
            (override,) = OverridesParser.create().parse_overrides([word])
            drop, before = columns_named(override.value()), drop
            assert {*drop} > {*before}
        else:
            break
    inputs = 3 if (what, header) == ("a column twice", "false") else 2
    assert (prepared.input_size, prepared.class_names) == (inputs, tuple(SPECIES))


# --- commands -----------------------------------------------------------------------------------------------


def test_columns_to_leave_out_are_params_in_one_form_and_no_part_of_the_id(pets, trials_of):
    pets.to_csv("pets.csv", index=False)
    pets.drop(columns=[*EXTRA]).to_csv("few.csv", index=False)
    shared = ("data=files", "data.scale=raw")
    (few,) = trials_of(*shared, "data.path=few.csv", "data.drop=[]")
    (trial,) = trials_of(*shared, "data.path=pets.csv", "data.drop=[notes,'pet name',id,id]")
    assert trial.id == few.id
    assert trial.params == few.params | {"data.path": "pets.csv", "data.drop": ["id", "notes", "pet name"]}
    pets.drop(columns=["pet name", "notes"]).to_csv("ids.csv", index=False)
    both = trials_of(*shared, "data.path=ids.csv", "data.drop=id,[id,height]")
    assert [each.params["data.drop"] for each in both] == ["id", ["height", "id"]]


@pytest.mark.parametrize("value", ["true", "1.5", "[[id]]"])
def test_what_is_no_name_of_a_column_is_refused(value, jobs_of):
    with pytest.raises(
        ConfigError, match=r"data\.drop=.* is not the name of a column; write data\.drop=NAME"
    ):
        jobs_of("data=files", "data.path=a.csv", f"data.drop={value}")


def test_a_list_of_columns_is_one_value_in_a_list_from_python():
    with pytest.raises(ConfigError, match=r'write \*\*\{"data.drop": \[\[\'id\', \'notes\'\]\]\}'):
        fnnexp.show_data("pets.csv", **{"data.drop": ["id", "notes"]})


def test_a_table_is_shown_without_the_columns(pets):
    pets.to_csv("pets.csv", index=False)
    shown = fnnexp.show_data("pets.csv", **{"data.drop": [[*EXTRA]]})
    assert list(shown.inputs.index) == ["weight (kg)", "height"]
    again = eval(shown.command.replace("fnnexp.sweep(", "fnnexp.show_data('pets.csv', "), {"fnnexp": fnnexp})
    assert again.checksum == shown.checksum


# --- frames -------------------------------------------------------------------------------------------------


def test_the_rows_of_a_table_have_the_names_and_numbers_of_its_file(pets):
    pets.to_csv("pets.csv", index=False)
    pets.to_csv("plain.csv", index=False, header=False)
    for given in ("pets.csv", Path("pets.csv"), str(Path("pets.csv").absolute())):
        parts = [fnnexp.images(given, split, drop=EXTRA) for split in ("train", "test")]
        rows = pd.concat(parts).sort_index()
        assert rows.index.tolist() == pets.index.tolist()
        assert rows["label"].map(dict(enumerate(SPECIES))).tolist() == pets["species"].tolist()
        inputs = pets[["weight (kg)", "height"]].astype(np.float32)
        pd.testing.assert_frame_equal(rows.drop(columns="label"), inputs)
    assert list(fnnexp.images("plain.csv", drop=["1", "2", "4"])) == ["label", "1", "2"]
    with pytest.raises(DataError, match=r"pet\.csv does not exist.*Did you mean 'pets\.csv'"):
        fnnexp.images("pet.csv")


@pytest.mark.parametrize("form", ["one file", "semicolons and blank lines", "two files"])
def test_mistakes_join_the_rows_of_the_file_as_pandas_reads_it(form, pets, empty_store):
    store, options, files = empty_store(Path()), {}, {"data.path": "pets.csv"}
    if form == "two files":
        pets[:70].to_csv("pets.csv", index=False)
        pets[70:].to_csv("test.csv", index=False)
        files["data.test_path"] = "test.csv"
    elif form == "one file":
        pets.to_csv("pets.csv", index=False)
    else:
        options = {"sep": ";"}
        lines = pets.to_csv(index=False, **options).splitlines()
        Path("pets.csv").write_text("\n\n".join(lines), "utf-8-sig")
    few = {"execution.backend": "sequential", "tracking.uri": store, "data.scale": "standardize"}
    runs = fnnexp.sweep(
        data="files", arch=["relu_100"], epochs=1, **files, **few, **{"data.drop": [[*EXTRA]]}
    )
    network = fnnexp.load(runs.iloc[0], tracking_uri=store)
    for split in ("val", "test"):
        table = pd.read_csv(files.get(f"data.{split}_path", "pets.csv"), **options)
        joined = fnnexp.mistakes(network, split=split).join(table, on="row")
        rows = table.loc[network.row_numbers(split)]
        predicted = [network.classes[k] for k in network.predict(rows[["weight (kg)", "height"]])]
        wrong = rows[rows["species"] != predicted]
        assert len(wrong)
        assert sorted(joined["id"]) == sorted(wrong["id"])
        assert joined["true_name"].tolist() == joined["species"].tolist()
        assert wrong.loc[joined["row"], "pet name"].tolist() == joined["pet name"].tolist()
