"""The estimator: scikit-learn's own checks, and its tools at work on texts."""

import pickle
import unittest
import warnings

from support import QUICK, data

try:
    import numpy as np
    import pandas as pd
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.utils.estimator_checks import check_estimator
except ImportError as error:
    raise unittest.SkipTest(f"the tests of ulmfit.sklearn need numpy, pandas and scikit-learn: {error}")

from ulmfit.sklearn import ULMFiTClassifier

#: Checks of scikit-learn that train on tables of numbers, where this estimator takes texts. What
#: they hold an estimator to is tested below on texts, where it is not about numbers alone.
NUMERIC = """
    check_fit_score_takes_y check_estimators_overwrite_params check_dont_overwrite_parameters
    check_estimators_fit_returns_self check_readonly_memmap_input
    check_n_features_in_after_fitting check_positive_only_tag_during_fit check_estimators_dtypes
    check_dtype_object check_estimators_empty_data_messages
    check_pipeline_consistency check_estimators_nan_inf check_estimator_sparse_array
    check_estimators_pickle check_f_contiguous_array_estimator check_classifier_data_not_an_array
    check_classifiers_one_label check_classifiers_classes check_classifiers_train
    check_supervised_y_2d check_methods_sample_order_invariance check_methods_subset_invariance
    check_fit2d_1sample check_fit2d_1feature check_dict_unchanged check_fit_idempotent
    check_fit_check_is_fitted check_n_features_in check_fit1d check_fit2d_predict1d
""".split()

SETTINGS = {key: value for key, value in QUICK.items() if key != "set"}
TEXTS, LABELS = data(12)
NEW, _ = data(6, seed=9)


def estimator(**changed):
    return ULMFiTClassifier(**{**SETTINGS, "settings": {"set": QUICK["set"]}, **changed})


class Table(ULMFiTClassifier):
    """Says that it takes tables, for otherwise scikit-learn checks nothing."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class Checks(unittest.TestCase):
    def test_scikit_learns_own(self):
        reasons = {name: "it trains on numbers" for name in NUMERIC}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = check_estimator(Table(), expected_failed_checks=reasons, on_fail=None)
        failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
        passed = {r["check_name"] for r in results if r["status"] == "passed"}
        self.assertEqual(failed, {})
        # none is in the list without need, and the list is not all there is
        self.assertEqual(passed & set(NUMERIC), set())
        self.assertGreaterEqual(len(passed), 15)

    def test_the_rest_of_them_on_texts(self):
        model = estimator(random_state=3)
        before = {name: repr(value) for name, value in model.get_params().items()}
        with self.assertRaises(NotFittedError):
            model.predict(NEW)
        # fit returns self, takes y by position, and changes no parameter
        self.assertIs(model.fit(TEXTS, LABELS), model)
        self.assertEqual({name: repr(value) for name, value in model.get_params().items()}, before)
        self.assertEqual(sorted(vars(clone(model))), sorted(before))
        rows = model.predict_proba(NEW)
        self.assertEqual((rows.shape, rows.dtype), ((len(NEW), 3), np.float64))
        np.testing.assert_allclose(rows.sum(axis=1), 1)
        np.testing.assert_array_equal(model.predict(NEW), model.classes_[rows.argmax(axis=1)])
        self.assertGreater(model.score(TEXTS, LABELS), 0.8)
        # asking changes nothing; order and company of the texts do not matter
        state = sorted(vars(model))
        np.testing.assert_array_equal(model.predict_proba(NEW[::-1])[::-1], rows)
        np.testing.assert_array_equal(np.vstack([model.predict_proba([text]) for text in NEW]), rows)
        self.assertEqual(sorted(vars(model)), state)
        # other containers, pickling, another fit
        np.testing.assert_array_equal(model.predict_proba(np.array(NEW, dtype=object)), rows)
        np.testing.assert_array_equal(model.predict_proba(pd.Series(NEW, index=range(5, 5 + len(NEW)))), rows)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(NEW), rows)
        series = pd.Series(TEXTS), pd.Series(LABELS, dtype="category")
        np.testing.assert_array_equal(clone(model).fit(*series).predict_proba(NEW), rows)
        other = clone(model).set_params(random_state=4).fit(TEXTS, LABELS).predict_proba(NEW)
        self.assertFalse(np.array_equal(other, rows))

    def test_what_cannot_be_learned_is_refused(self):
        for X, y, error in [
            (TEXTS, LABELS[:-1], "inconsistent"),
            (TEXTS, None, "y to be passed"),
            (TEXTS, [0.5 + k for k in range(len(TEXTS))], "continuous"),
            (TEXTS, ["one"] * len(TEXTS), "class"),
            ([], [], "."),
            (np.array(TEXTS).reshape(-1, 1), LABELS, "one dimension"),
            (pd.DataFrame({"text": TEXTS}), LABELS, "one dimension"),
        ]:
            with self.subTest(error), self.assertRaisesRegex(ValueError, error):
                estimator().fit(X, y)
        with self.assertRaisesRegex(ValueError, "parameter of its own"):
            estimator(settings={"base": "none"}).fit(TEXTS, LABELS)
        with self.assertRaisesRegex(ValueError, "unknown flag"):
            estimator(settings={"magic": 1}).fit(TEXTS, LABELS)


class Tools(unittest.TestCase):
    def test_a_grid_search_through_a_pipeline(self):
        steps = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), estimator())
        grid = {"ulmfitclassifier__blend": ["auto", "off"]}
        search = GridSearchCV(steps, grid, cv=2, error_score="raise").fit(pd.Series(TEXTS), np.array(LABELS))
        self.assertEqual(len(search.cv_results_["params"]), 2)
        self.assertGreater(search.best_score_, 0.5)
        self.assertEqual(list(search.classes_), ["bad", "good", "odd"])
        self.assertEqual(len(search.predict(pd.Series(NEW))), len(NEW))

    def test_classes_are_in_the_order_of_scikit_learn(self):
        texts, labels = data(12, classes=("good", "bad"))
        model = estimator().fit(texts, ["2" if label == "good" else "10" for label in labels])
        self.assertEqual(model.classes_.tolist(), ["10", "2"])
        # the program sorts names of numbers as numbers
        self.assertEqual(model.classifier_.classes_, ["2", "10"])
        by_number = np.array(model.classifier_.predict_proba(NEW))
        np.testing.assert_array_equal(model.predict_proba(NEW), by_number[:, ::-1])
        self.assertEqual(set(model.predict(texts)), {"2", "10"})
        self.assertGreater(model.score(texts, ["2" if label == "good" else "10" for label in labels]), 0.8)
        # a text without words: the share of each class, and a warning
        with self.assertWarnsRegex(UserWarning, "1 texts have no words"):
            np.testing.assert_array_equal(model.predict_proba(["  ", NEW[0]])[0], [0.5, 0.5])


if __name__ == "__main__":
    unittest.main()
