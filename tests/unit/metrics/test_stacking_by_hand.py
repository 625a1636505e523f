"""The parts of stacking, each against what it is defined as."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from memgrid.metrics.stacking import added, cross_fitted_loss, fitted, left_over, standardised, stratified

FOLDS, RIDGE = 10, 0.3  # as how-it-works 4 has them


def some(samples=60, columns=2, seed=0):
    """Labels, others and a source that both know something of them."""
    random = np.random.default_rng(seed)
    labels = random.random(samples) < 0.4
    return labels, random.normal(size=(samples, columns)) + labels[:, None], random.normal(size=samples) + labels


def test_there_are_ten_folds_and_the_second_label_goes_on_where_the_first_ended():
    labels = np.arange(57) % 4 == 0  # 15 of 57
    folds = stratified(labels, np.arange(57), 1)
    assert np.bincount(folds[~labels]).tolist() == [5, 5, 4, 4, 4, 4, 4, 4, 4, 4]
    assert np.bincount(folds[labels]).tolist() == [1, 1, 2, 2, 2, 2, 2, 1, 1, 1]


def test_a_group_is_in_one_fold_and_has_the_label_of_its_first_sample():
    labels, groups = np.array([True, False, False, True] * 10), np.repeat(np.arange(20), 2)
    folds = stratified(labels, groups, 0)
    assert (folds[::2] == folds[1::2]).all()
    firsts = labels[::2]  # ten groups begin with either
    assert sorted(folds[::2][firsts]) == sorted(folds[::2][~firsts]) == list(range(FOLDS))


def test_columns_are_standardised_by_the_samples_inside():
    features = np.array([[0.0, 7.0, 1e-6, 2e-6], [2.0, 7.0, -1e-6, -2e-6], [8.0, 7.0, 0.0, 0.0]])
    made = standardised(features[None], np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))
    assert made.shape == (2, 3, 4)
    np.testing.assert_allclose(made[0, :, 0], [-1, 1, 7])
    np.testing.assert_allclose(made[1, :, 0], [-5 / 3, -1, 1])
    # A column that varies by a millionth does not vary.
    assert made[:, :, 1].tolist() == [[0, 0, 0]] * 2
    assert made[0, :, 2].tolist() == [0, 0, 0]
    np.testing.assert_allclose(made[0, :, 3], [1, -1, 0])


def test_what_is_left_over_is_what_least_squares_leave():
    _, others, source = some()
    folds = np.arange(60) % 3
    inside = (folds != np.arange(3)[:, None]).astype(float)
    columns = np.concatenate([np.ones((60, 1)), others], 1)[None].repeat(3, 0)
    own = (source - source.mean()) / source.std()
    for fold, made in enumerate(left_over(source, columns, inside)):
        weights = np.linalg.lstsq(columns[fold][folds != fold], own[folds != fold], rcond=None)[0]
        np.testing.assert_allclose(made[:, 0], own - columns[fold] @ weights, atol=1e-9)
    np.testing.assert_allclose(left_over(np.full(60, 3.0), columns, inside), 0, atol=1e-9)
    # Of a source so small that it does not vary hardly anything is left.
    assert np.abs(left_over(1e-9 * own, columns, inside)).max() < 0.01


def test_fitted_weights_are_where_the_penalised_loss_is_flat():
    labels, others, _ = some(80, 3)
    columns = np.concatenate([np.ones((80, 1)), others * [1, 0.1, 5]], 1)[None].repeat(2, 0)
    inside = np.stack([np.arange(80) < 50, np.arange(80) >= 20]).astype(float)
    weights = fitted(columns, labels.astype(float), inside)
    for own, fold, seen in zip(weights, columns, inside > 0, strict=True):
        flat = fold[seen].T @ (expit(fold[seen] @ own) - labels[seen]) + np.array([1e-6, RIDGE, RIDGE, RIDGE]) * own
        np.testing.assert_allclose(flat, 0, atol=1e-9)


@pytest.mark.parametrize("groups", [None, np.arange(60) // 2])
def test_what_a_source_adds_is_what_a_plain_loop_finds(groups):
    labels, others, source = some()
    folds = stratified(labels, np.arange(60) if groups is None else groups, 7)
    loss = np.empty((2, 60))
    for fold in range(FOLDS):
        seen, own = folds != fold, folds == fold
        usual = StandardScaler().fit(others[seen]).transform(others)
        columns = np.column_stack([np.ones(60), usual])
        rest = source - columns @ np.linalg.lstsq(columns[seen], source[seen], rcond=None)[0]
        rest = (rest - rest[seen].mean()) / rest[seen].std()
        for number, shown in enumerate((usual, np.column_stack([usual, rest]))):
            model = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000).fit(shown[seen], labels[seen])
            loss[number, own] = -np.log(model.predict_proba(shown[own])[np.arange(own.sum()), labels[own].astype(int)])
    np.testing.assert_allclose(added(labels, others, source, 7, groups), loss[0] - loss[1], atol=1e-5)
    np.testing.assert_allclose(cross_fitted_loss(labels, others, folds, source), loss[1], atol=1e-5)
    assert added(labels, others, source, 7, groups).mean() > 0.01
