"""The package from outside: the installed wheel, against the command line."""

import _thread
import csv
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import sysconfig
import threading
import unittest
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import ulmfit
from support import PLACE, QUICK, data, flags, temporary_folders, trained
from ulmfit import Classifier, LanguageModel, UlmfitError

#: The command that the wheel brought, or what stands for it.
COMMAND = Path(os.environ.get("ULMFIT_COMMAND") or Path(sysconfig.get_path("scripts")) / "ulmfit")
NEW, _ = data(15, seed=9)


def run(*arguments, program=COMMAND):
    """Standard output of a command that succeeds."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{arguments}: {done.stderr}")
    return done.stdout


def command_rows(model, texts, program=COMMAND):
    """Probabilities that the command gives."""
    lines = run("predict", "--model", model, *texts, program=program).splitlines()
    return [list(json.loads(line)["probabilities"].values()) for line in lines]


class SameBits(unittest.TestCase):
    def test_a_folder_answers_as_the_command_does(self):
        model, folder = trained()
        rows = model.predict_proba(NEW)
        self.assertEqual(rows, command_rows(folder, NEW))
        self.assertEqual(rows, Classifier.load(folder, threads=1).predict_proba(NEW))
        self.assertEqual(rows, Classifier.load(folder / "classifier").predict_proba(NEW))
        self.assertNotEqual(rows, Classifier.load(folder, blend="off").predict_proba(NEW))
        binary = os.environ.get("ULMFIT_BINARY")
        if binary:
            self.assertEqual(rows, command_rows(folder, NEW, program=binary))

    def test_texts_in_memory_train_as_a_file_does(self):
        model, _ = trained()
        table, folder = PLACE / "train.csv", PLACE / "by-command"
        with open(table, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(zip(*data(20)))
        result = json.loads(run("run", "--train", table, "--out", folder, "--json", *flags()).splitlines()[-1])
        self.assertEqual(model.predict_proba(NEW), command_rows(folder, NEW))
        for key in ("finetune_lm", "classifier", "linear", "answer"):
            self.assertEqual(model.result_[key], result[key])

    def test_classes_are_those_of_the_command(self):
        model, folder = trained()
        self.assertEqual(model.classes_, ["bad", "good", "odd"])
        lines = run("predict", "--model", folder, *NEW).splitlines()
        self.assertEqual(model.predict(NEW), [json.loads(line)["label"] for line in lines])

    def test_the_command_is_whole(self):
        self.assertIn(ulmfit.__version__, run("--version"))
        self.assertEqual(run("--version"), run("-m", "ulmfit", "--version", program=sys.executable))
        done = subprocess.run([COMMAND, "predict"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertTrue(done.stderr.startswith("error: "), done.stderr)


class Models(unittest.TestCase):
    def test_a_model_survives_saving_and_pickling(self):
        model, _ = trained()
        rows, place = model.predict_proba(NEW), PLACE / "saved"
        model.save(place)
        self.assertEqual(Classifier.load(place).predict_proba(NEW), rows)
        self.assertEqual(command_rows(place, NEW), rows)
        other = pickle.loads(pickle.dumps(model))
        self.assertEqual((other.predict_proba(NEW), other.result_), (rows, model.result_))
        with self.assertRaisesRegex(UlmfitError, "is not an empty folder"):
            model.save(place)

    def test_without_a_folder_a_model_leaves_nothing(self):
        before = temporary_folders()
        texts, labels = data(12, classes=("good", "bad"))
        numbers = [2 if label == "good" else 10 for label in labels]
        model = Classifier().fit(texts, numbers, verbose=0, **QUICK)
        self.assertEqual(model.classes_, [2, 10])
        self.assertEqual(set(map(type, model.predict(NEW))), {int})
        self.assertEqual(len(temporary_folders() - before), 1)
        del model
        self.assertEqual(temporary_folders() - before, set())

    def test_other_tasks_are_learned(self):
        texts, labels = data(10)
        few = {**QUICK, "set": {"finetune.updates_least": 2, "classifier.updates_least": 6}}
        sets = [[label, 7] if at % 4 else [] for at, label in enumerate(labels)]
        model = Classifier().fit(texts, sets, task="labels", verbose=0, **few)
        self.assertEqual(model.classes_, [7, "bad", "good", "odd"])
        self.assertIn("valid_micro_f1", model.result_["classifier"])
        rows = model.predict_proba(NEW)
        self.assertEqual(model.predict(NEW), [[c for c, p in zip(model.classes_, row) if p >= 0.5] for row in rows])
        table, folder = PLACE / "sets.jsonl", PLACE / "by-command-sets"
        lines = [json.dumps({"text": text, "label": [*map(str, some)]}) for text, some in zip(texts, sets)]
        table.write_text("\n".join(lines) + "\n")
        settings = [f"--set={key}={value}" for key, value in few["set"].items()]
        line = ["--base=tiny", "--device=cpu", "--task=labels", *settings]
        run("run", "--train", table, "--out", folder, *line)
        lines = run("predict", "--model", folder, *NEW).splitlines()
        self.assertEqual(rows, [list(json.loads(line)["probabilities"].values()) for line in lines])

        numbers = [10.5 if label == "good" else -3 for label in labels]
        model = Classifier().fit(texts, numbers, task="regression", verbose=0, **few)
        self.assertEqual({type(number) for number in model.predict(NEW)}, {float})
        model = Classifier().fit([*zip(texts, texts[1:])], labels[1:], task="pair", verbose=0, **few)
        self.assertLessEqual(set(model.predict([(NEW[0], NEW[1])])), {"bad", "good", "odd"})

    def test_a_text_without_words_has_no_answer(self):
        model, _ = trained()
        rows = model.predict_proba(["", NEW[0], "  \n"])
        self.assertEqual([row is None for row in rows], [True, False, True])
        self.assertEqual(rows[1], model.predict_proba(NEW)[0])
        self.assertIsNone(model.predict([""])[0])
        self.assertEqual(model.predict([]), [])

    def test_any_column_of_texts_is_taken(self):
        model, _ = trained()
        rows = model.predict_proba(NEW)
        self.assertEqual(model.predict_proba(tuple(NEW)), rows)
        self.assertEqual(model.predict_proba(text for text in NEW), rows)
        try:
            import pandas
        except ImportError:
            self.skipTest("pandas is not installed")
        table = pandas.DataFrame({"text": NEW}, index=range(100, 100 + len(NEW)))
        self.assertEqual(model.predict_proba(table["text"]), rows)
        with self.assertRaisesRegex(TypeError, "one column of texts"):
            model.predict(table)

    def test_a_language_model_scores_and_goes_on(self):
        model, folder = LanguageModel.load("tiny", device="cpu"), PLACE / "trained" / "finetune-lm"
        trained()
        tuned = LanguageModel.load(folder, device="cpu")
        texts, file = [NEW[0], ""], PLACE / "texts.txt"
        file.write_text(NEW[0] + "\n")
        first = json.loads(run("score", "--model", folder, "--input", file, "--device=cpu").splitlines()[0])
        self.assertEqual(tuned.score(texts)[0]._asdict(), first)
        self.assertIsNone(tuned.score(texts)[1].perplexity)
        self.assertLess(tuned.score(texts)[0].perplexity, model.score(texts)[0].perplexity)
        said = run("generate", "--model", folder, "--prompt", "The film", "--length=8", "--seed=3", "--device=cpu")
        self.assertEqual(tuned.generate("The film", length=8, random_state=3), said.rstrip("\n"))
        with self.assertRaisesRegex(UlmfitError, "temperature"):
            model.generate("The film", temperature=0)


class Faults(unittest.TestCase):
    def test_a_fault_is_one_sentence_with_a_hint(self):
        with self.assertRaises(UlmfitError) as caught:
            Classifier.load(PLACE / "nothing")
        self.assertIsInstance(caught.exception, ValueError)
        self.assertIn("nothing", str(caught.exception))
        texts, labels = data(4)
        for settings, sentence in [
            ({"base": "tiny", "epoch": 2}, "unknown flag '--epoch'"),
            ({"base": "tiny", "epochs": 0}, "epochs"),
            ({"base": "tiny", "effort": "huge"}, "effort"),
            ({"base": str(PLACE / "nothing")}, "nothing"),
            ({"base": "tiny", "task": "tags"}, "tags of words cannot be learned"),
            ({"base": "tiny", "set": {"classifier.task": "labels"}}, "the settings ask for the task 'labels'"),
        ]:
            with self.subTest(settings), self.assertRaisesRegex(UlmfitError, sentence) as caught:
                Classifier().fit(texts, labels, verbose=0, **settings)
            self.assertNotIn("\n", str(caught.exception))
        self.assertTrue(caught.exception.hint)
        with self.assertRaisesRegex(UlmfitError, "class"):
            Classifier().fit(texts, ["one"] * len(texts), verbose=0, base="tiny")

    def test_what_is_no_text_or_label_is_refused(self):
        model, _ = trained()
        for texts in ["one text", b"bytes", {"text": 1}]:
            with self.assertRaises(TypeError):
                model.predict(texts)
        with self.assertRaisesRegex(TypeError, "item 1 is float"):
            model.predict(["a", float("nan")])
        for labels, error in [
            ([1.5, float("nan")], ValueError),
            (["", "b"], ValueError),
            ([1, "1"], ValueError),
            (["a"], ValueError),
            ([[1], [2]], TypeError),
            ("ab", TypeError),
        ]:
            with self.subTest(labels), self.assertRaises(error):
                Classifier().fit(["a text", "another"], labels)
        for task, labels, error, sentence in [
            ("labels", ["a", "b"], TypeError, "item 0 is str, not a list of labels"),
            ("labels", [["a"], None], ValueError, "item 1 is None; a text without any label has"),
            ("labels", [[1], ["1"]], ValueError, "two labels with one name"),
            ("labels", [["a "], []], ValueError, "white space around it"),
            ("regression", [1, "2"], ValueError, "item 1 is '2', not a finite number"),
            ("pair", ["a", "b"], TypeError, "item 0 is no pair of two str"),
        ]:
            with self.subTest(task=task, labels=labels), self.assertRaisesRegex(error, sentence):
                Classifier().fit(["a text", "another"], labels, task=task)
        for threads in [0, 1.5, True, 5000]:
            with self.subTest(threads), self.assertRaises((TypeError, ValueError)):
                Classifier().fit(["a text", "another"], ["a", "b"], threads=threads)
        with self.assertRaisesRegex(TypeError, "random_state"):
            Classifier().fit(["a text", "another"], ["a", "b"], seed=1)

    def test_a_refused_fit_leaves_the_model(self):
        model = Classifier.load(trained()[1])
        rows = model.predict_proba(NEW)
        with self.assertRaises(UlmfitError):
            model.fit(["a text"], ["a"], verbose=0, **QUICK)
        self.assertEqual(model.predict_proba(NEW), rows)
        with self.assertRaisesRegex(UlmfitError, "there is no model yet"):
            Classifier().predict(NEW)


class Cooperation(unittest.TestCase):
    def test_other_threads_run_meanwhile(self):
        failed, ticks = [], 0

        def work():
            try:
                Classifier().fit(*data(12), verbose=0, **QUICK)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            ticks += 1
        self.assertEqual(failed, [])
        # with the lock held, this thread would run between two calls alone
        self.assertGreater(ticks, 10_000)

    def test_ctrl_c_ends_a_training_that_can_go_on(self):
        place, before = PLACE / "stopped", temporary_folders()
        # a job in the background of a shell ignores Ctrl-C
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        # long enough that a busy machine still presses in time
        long = {**QUICK, "set": {**QUICK["set"], "finetune.updates_least": 200}}

        def press():
            while not (place / "finetune-lm" / "metrics.jsonl").exists():
                pass
            _thread.interrupt_main()

        presser = threading.Thread(target=press)
        presser.start()
        # nothing is told, so that nothing but the look for signals sees it
        with self.assertRaises(KeyboardInterrupt):
            Classifier().fit(*data(20), out=place, verbose=0, **long)
        presser.join()
        self.assertFalse((place / "classifier" / "config.json").exists())
        model = Classifier().fit(*data(20), out=place, resume=True, verbose=0, **long)
        whole = Classifier().fit(*data(20), out=PLACE / "whole", verbose=0, **long)
        self.assertEqual(model.predict_proba(NEW), whole.predict_proba(NEW))
        self.assertEqual(temporary_folders(), before)

    def test_progress_is_told_to_python(self):
        with redirect_stderr(io.StringIO()) as told:
            Classifier().fit(*data(12), verbose=1, **QUICK)
        self.assertIn(" parameters", told.getvalue())
        with redirect_stderr(io.StringIO()) as told:
            Classifier().fit(*data(12), verbose=0, **QUICK)
        self.assertEqual(told.getvalue(), "")

    def test_an_exception_while_telling_ends_a_training(self):
        class Full(io.StringIO):
            def write(self, text):
                raise OSError("no space left")

        with redirect_stderr(Full()), self.assertRaisesRegex(OSError, "no space left"):
            Classifier().fit(*data(12), verbose=1, **QUICK)

    def test_warnings_are_warnings(self):
        texts, labels = data(12)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Classifier().fit(texts, labels, test=(texts[:6], labels[:6]), verbose=0, **QUICK)
        self.assertTrue(any("test set" in str(w.message) for w in caught), [str(w.message) for w in caught])

    @unittest.skipUnless(hasattr(os, "fork"), "this system does not fork")
    def test_a_forked_process_predicts_and_removes_nothing(self):
        model = pickle.loads(pickle.dumps(trained()[0]))
        rows, before = model.predict_proba(NEW), temporary_folders()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if model.predict_proba(NEW) == rows else 2
                del model
                ulmfit._close()
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual(temporary_folders(), before)


if __name__ == "__main__":
    unittest.main()
