"""A CSV file becomes a schema, a task and rows; what cannot be trained on is refused with the remedy."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.task import Category, Number, TabularClassification, TabularRegression
from tests.training.made_up import tiny
from tests.training.own.made_up import customers
from training.datasets import DataError, DataSet, Raw
from training.own.source import Options
from training.own.table import TableOptions, read_table
from training.validation import validate


def read(path: Path, target: str = "churn", like: Any = None, **columns: Any) -> tuple[DataSet, Raw, list[str]]:
    said: list[str] = []
    data, raw = read_table(path, TableOptions(target, **columns), Options(like=like, say=said.append))
    return data, raw, said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    customers(tmp_path / "customers.csv")
    return tmp_path / "customers.csv"


def field(data: DataSet, name: str) -> Number | Category:
    assert isinstance(data.task, TabularRegression | TabularClassification)
    return next(field for field in data.task.fields if field.name == name)


def test_columns_of_numbers_and_of_texts_become_fields_in_their_order(path: Path) -> None:
    data, _, _ = read(path)
    assert isinstance(data.task, TabularClassification)
    assert data.task.names == ("months", "charges", "contract", "price", "plan")
    assert field(data, "plan") == Category(name="plan", values=("basic", "plus", "pro"))


def test_a_range_is_wider_than_the_data_and_not_below_0_where_they_are_not(path: Path) -> None:
    months = field(read(path)[0], "months")
    assert isinstance(months, Number)
    assert (months.low, months.high) == (0, 106)


def test_a_field_may_be_missing_where_the_training_data_lack_it(path: Path) -> None:
    data, _, _ = read(path)
    assert [name for name in ("months", "charges", "contract") if field(data, name).missing] == ["charges"]


def test_constant_and_free_text_columns_are_left_out_and_said(path: Path) -> None:
    said = read(path)[2]
    assert any("customer" in line and "160 different texts" in line for line in said)
    assert any("region" in line and "1 value" in line for line in said)


@pytest.mark.parametrize(
    ("target", "kind", "labels"),
    [
        ("churn", "tabular_classification", ("no", "yes")),
        ("plan", "tabular_classification", ("basic", "plus", "pro")),
        ("price", "tabular_regression", None),
        ("charges", "tabular_regression", None),
    ],
)
def test_the_target_column_decides_the_task(path: Path, target: str, kind: str, labels: tuple[str, ...] | None) -> None:
    task = read(path, target)[0].task
    assert task.kind == kind
    assert getattr(task, "labels", None) == labels


def test_few_whole_numbers_are_classes_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "wine.csv"
    pd.DataFrame({"x": range(60), "quality": [3, 4, 10] * 20}).to_csv(path, index=False)
    task = read(path, "quality")[0].task
    assert isinstance(task, TabularClassification)
    assert task.labels == ("3", "4", "10")
    assert read(path, "quality", task="regression")[0].task.kind == "tabular_regression"


def test_numbers_that_are_names_become_a_category_when_the_user_says_so(path: Path) -> None:
    assert isinstance(field(read(path, categories=("months",))[0], "months"), Category)


def test_units_are_the_users(path: Path) -> None:
    data = read(path, "price", units=(("price", "USD"), ("months", "months")))[0]
    assert isinstance(data.task, TabularRegression)
    assert data.task.unit == "USD"
    assert field(data, "months") == Number(name="months", unit="months", low=0, high=106)


def test_rows_are_what_the_service_makes_of_the_same_records(path: Path) -> None:
    data, raw, _ = read(path)
    assert isinstance(data.task, TabularClassification)
    split = data.split(validate(raw, data.schema()), tiny("dnn"))
    rows = np.concatenate([split.train.rows, split.validation.rows, split.test.rows])
    records = raw.table[list(data.task.names)].astype(object)
    parsed = data.task.parse([{k: None if pd.isna(v) else v for k, v in r.items()} for r in records.to_dict("records")])
    assert sorted(map(str, rows.tolist())) == sorted(map(str, parsed.tolist()))


def test_about_a_fifth_is_for_test_and_the_rest_is_parted_with_the_same_shares_of_each_class(path: Path) -> None:
    data, raw, _ = read(path)
    split = data.split(raw, tiny("dnn"))
    assert len(split.train) + len(split.validation) + len(split.test) == 160
    assert 0.14 < len(split.test) / 160 < 0.26
    assert len(split.validation) == math.ceil(0.2 * (160 - len(split.test)))
    assert abs(split.train.values.mean() - split.validation.values.mean()) < 0.03


def test_a_test_row_stays_one_when_rows_are_added_or_removed(path: Path) -> None:
    table = customers(path, rows=400)
    task = read(path)[0].task
    table[:250].to_csv(path, index=False)
    before = rows_for_test(path, task)
    table.sample(frac=1, random_state=0).to_csv(path, index=False)
    after = rows_for_test(path, task)
    assert before < after
    assert 0.14 < len(after) / 400 < 0.26


def rows_for_test(path: Path, like: Any) -> set[tuple[float, ...]]:
    data, raw, _ = read(path, like=like)
    return {tuple(np.nan_to_num(row, nan=-1)) for row in data.split(raw, tiny("dnn")).test.rows}


def test_another_seed_keeps_the_test_rows(path: Path) -> None:
    data, raw, _ = read(path)
    one, other = (data.split(raw, tiny("dnn", seed=seed)) for seed in (1, 2))
    np.testing.assert_array_equal(one.test.rows, other.test.rows)
    assert not np.array_equal(one.validation.rows, other.validation.rows, equal_nan=True)


def test_rows_without_a_target_are_left_out_and_counted(path: Path, tmp_path: Path) -> None:
    table = pd.read_csv(path)
    table.loc[:4, "churn"] = None
    table.to_csv(tmp_path / "some.csv", index=False)
    _, raw, said = read(tmp_path / "some.csv")
    assert len(raw.table) == 155
    assert "left out: 5 rows without churn" in said


def test_new_data_under_an_old_name_keep_its_order_ranges_and_vocabulary(path: Path, tmp_path: Path) -> None:
    before = read(path)[0].task
    table = pd.read_csv(path)
    table["months"] = table["months"].clip(10, 20)
    table["plan"] = table["plan"].replace("plus", "a new one")
    table["charges"] = table["charges"].fillna(50)
    table[["plan", "churn", "price", "contract", "months", "charges"]].to_csv(tmp_path / "new.csv", index=False)
    after = read(tmp_path / "new.csv", like=before)[0]
    assert isinstance(after.task, TabularClassification)
    assert after.task.names == ("months", "charges", "contract", "price", "plan")
    assert field(after, "plan") == Category(name="plan", values=("basic", "plus", "pro", "a new one"))
    assert field(after, "months") == Number(name="months", low=0, high=106)
    assert field(after, "charges").missing


@pytest.mark.parametrize(
    ("text", "target", "says"),
    [
        ("a,b\n1,2\n", "c", "has no column 'c'. Its columns: a, b"),
        ("a,b\n1,2\n", "b", "at least 50 are needed"),
        ("a,a\n1,2\n", "a", "'a' is there twice"),
        ("a,\n1,2\n", "a", "'' is empty"),
        ("a,b\n1,2\n1,2,3\n", "b", "must be a CSV file"),
        ("", "b", "must be a CSV file"),
        ("a,b\n" + "1,2\n" * 60, "b", "no column is left"),
        ("a,b\n" + "1,2\n2,2\n" * 60, "b", "is always '2'"),
        ("a,b\n" + "1,2\n2,3\n" * 30 + "1,4\n", "b", "class '4' has 1 row; each needs at least 8"),
        ("a,b\n" + "".join(f"{i},{i}x\n" for i in range(101)), "b", "at most 100 classes"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_the_reason(
    tmp_path: Path, text: str, target: str, says: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=says.replace("(", r"\(")):
        read(tmp_path / "t.csv", target)


def test_a_regression_on_texts_is_refused_with_one_of_them(path: Path) -> None:
    with pytest.raises(DataError, match=r"Received: '(yes|no)'. Use --task classification"):
        read(path, "churn", task="regression")


def test_the_hash_is_of_the_file(path: Path) -> None:
    before = read(path)[0].sha256
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    assert read(path)[0].sha256 != before


def test_no_record_of_the_data_is_passed_on_unless_the_user_says_so(path: Path) -> None:
    assert read(path)[0].derivatives is False
    shared = read_table(path, TableOptions("churn"), Options(share_rows=True, say=lambda _: None))[0]
    assert shared.derivatives is True
