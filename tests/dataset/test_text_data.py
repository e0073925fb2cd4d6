"""Text: the embedded grammar against its own causes; folders and tables of one's own; tokenizers; what is refused."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import enter, put, refusal, summary

from ssl_runner.contract import Samples
from ssl_runner.data.check import check_data
from ssl_runner.data.text_files.reading import cut_text
from ssl_runner.data.text_files.tokenizer import (
    byte_tokenizer,
    fit_pieces,
    fit_words,
    read_tokenizer,
    word_starts,
)
from ssl_runner.dataset.grammar import Grammar
from ssl_runner.dataset.text_folder import TextFolder
from ssl_runner.encoder.load import find_encoder
from ssl_runner.rendering.sentences import CONJUNCTIONS, LEXICON, MOODS, TAGS, plural_of

TEXTS = ["The cow was fed, by the farmer!", "a cow is  not a plough.", "Déjà vu 🙂?"]


@pytest.fixture(scope="module")
def grammar():
    dataset = Grammar(sentences=2000, test=500)
    return dataset, dataset.load()


def words_of(data, split):
    tokenizer = read_tokenizer(data.assets["tokenizer.json"])
    return [tokenizer.decode(row.tolist()).split() for row in split.x]


def main_clause(words):
    """The words of the clause that no conjunction opens; as a reader finds it."""
    text = words[:-1]
    if text[0] in CONJUNCTIONS:
        return text[text.index(",") + 1 :]
    opened = [place for place, word in enumerate(text) if word in CONJUNCTIONS]
    return text[: opened[0]] if opened else text


def test_labels_are_the_main_clauses(grammar):
    """Read off the words by rules of another form than those that drew them."""
    dataset, data = grammar
    assert not check_data(data, dataset.samples)
    assert data.classes == MOODS
    persons = {name: {*parts[0], *map(plural_of, parts[0])} for name, parts in LEXICON.items()}
    for split in (data.bank, data.validation, data.test):
        for row, words in enumerate(words_of(data, split)):
            clause, known = main_clause(words), {name: int(each[row]) for name, each in split.targets.items()}
            assert known["negated"] == ("not" in clause)
            assert known["passive"] == ("by" in clause)
            assert int(split.y[row]) == 2 * known["passive"] + known["negated"]
            assert (known["tense"] == 2) == ("will" in clause)
            assert persons[list(LEXICON)[known["topic"]]] & {*clause}
            assert words[-1] == ".", "neither a tag question nor a place tells what is measured"
            assert "in" not in words


def test_training_sentences_have_what_binds_distant_words(grammar):
    _, data = grammar
    words = words_of(data, SimpleNamespace(x=data.train))
    assert 0.45 < sum(each[-1] == "?" for each in words) / len(words) < 0.55
    assert 0.45 < sum(each[0] == "in" for each in words) / len(words) < 0.55
    assert 0.75 < sum(bool({*each} & {*CONJUNCTIONS}) for each in words) / len(words) < 0.85
    assert not {tuple(each) for each in data.train.tolist()} & {tuple(each) for each in data.test.x.tolist()}


def test_neither_length_nor_a_bag_of_words_tells_the_mood():
    data = Grammar(sentences=10_000).load()
    (x, y), (query, wanted) = ((s.x.long(), s.y) for s in (data.bank, data.test))

    def share(a, b):
        return ridge(a, y, b, wanted)

    bags = [torch.nn.functional.one_hot(each, 276).sum(1)[:, 1:].double() for each in (x, query)]
    lengths = [torch.nn.functional.one_hot((each != 0).sum(1), 41).double() for each in (x, query)]
    assert share(*lengths) < 0.45
    assert 0.5 < share(*bags) < 0.75


def ridge(x, y, query, wanted):
    """The accuracy of regression on classes."""
    x, query = (torch.cat([each, torch.ones(len(each), 1, dtype=torch.float64)], 1) for each in (x, query))
    target = torch.nn.functional.one_hot(y).double()
    weight = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]).double(), x.T @ target)
    return ((query @ weight).argmax(1) == wanted).double().mean().item()


def test_parts_of_speech_are_of_their_words(grammar):
    _, data = grammar
    tags = data.test.tokens["part_of_speech"]
    assert torch.equal(tags >= 0, data.test.x != 0)
    for row, words in zip(tags[:50], words_of(data, data.test)[:50], strict=True):
        named = dict(zip(words, (TAGS[each] for each in row), strict=False))
        assert named["the"] == "determiner"
        assert named["."] == "mark"
        assert {named.get("not", "not"), named.get("by", "preposition")} == {"not", "preposition"}
    assert Grammar(sentences=100, tokenizer="bytes", length=200).load().bank.tokens == {}


def test_the_default_vocabulary_is_all_words_and_other_sizes_change_no_rows_before():
    data = Grammar().load()
    assert read_tokenizer(data.assets["tokenizer.json"]).vocabulary == Grammar().samples.vocabulary
    assert not (data.train == 1).any()
    assert len(data.train) == 20_000
    assert (len(data.bank.x), len(data.validation.x), len(data.test.x)) == (4000, 2000, 2000)
    assert Grammar(seed=1, sentences=100).load().fingerprint != Grammar(sentences=100).load().fingerprint


@pytest.mark.parametrize(
    "tokenizer",
    [byte_tokenizer(True), byte_tokenizer(False), fit_words(TEXTS, 30, True), fit_words(TEXTS, 8, False)],
    ids=["bytes", "Bytes", "words", "Words"],
)
def test_our_tokenizers_are_files_of_the_librarys(tokenizer):
    library = pytest.importorskip("tokenizers").Tokenizer.from_str(tokenizer.content.decode())
    for text in [*TEXTS, "zebra_3 -- 'ok'"]:
        assert tokenizer.encode([text])[0] == library.encode(text, add_special_tokens=False).ids
    again = read_tokenizer(tokenizer.content)
    assert (type(again), again.content, again.vocabulary) == (type(tokenizer), tokenizer.content, tokenizer.vocabulary)
    assert again.encode(TEXTS) == tokenizer.encode(TEXTS)


def test_ids_are_read_back():
    assert byte_tokenizer(False).decode(byte_tokenizer(False).encode(TEXTS)[2]) == TEXTS[2]
    words = fit_words(TEXTS, 30, True)
    assert words.decode([*words.encode(["A cow, a farmer"])[0], 0, 0]) == "a cow , a farmer"
    assert words.decode(words.encode(["a zebra"])[0]) == "a [UNK]"
    assert fit_words(["b b a a c"], 4, True).encode(["a b c"]) == [[2, 3, 1]], "of equals the first in the alphabet"


def test_pieces_are_the_same_in_any_order_and_a_file_of_others_is_moved_up():
    pytest.importorskip("tokenizers")
    pieces = fit_pieces(TEXTS * 3, 300, True)
    assert fit_pieces(reversed(TEXTS * 3), 300, True).content == pieces.content
    assert (pieces.shift, pieces.decode(pieces.encode([TEXTS[2]])[0]).strip()) == (0, TEXTS[2].lower())
    described = json.loads(pieces.content)
    described["added_tokens"] = []
    described["model"]["vocab"] = {k: v - 1 for k, v in described["model"]["vocab"].items() if v}
    moved = read_tokenizer(json.dumps(described).encode())
    assert (moved.shift, moved.encode(TEXTS)) == (1, pieces.encode(TEXTS))
    assert moved.decode(moved.encode([TEXTS[0]])[0]).strip() == TEXTS[0].lower()


def test_words_begin_at_blanks():
    tokenizer = byte_tokenizer(True)
    starts = word_starts({"tokenizer.json": tokenizer.content}, tokenizer.vocabulary)
    assert starts.nonzero().flatten().tolist() == [ord(" ") + 1]
    assert word_starts({"tokenizer.json": fit_words(TEXTS, 30, True).content}, 30).all()
    assert word_starts({}, 5).all()


FILES = {
    "tsv": "text\tlabel\nthe cow\tfarm\na net\tsea\n",
    "csv": 'text,label\n"the cow",farm\na net,sea\n',
    "jsonl": '{"text": "the cow", "label": "farm"}\n\n{"text": "a net", "label": "sea"}\n',
}


@pytest.mark.parametrize("suffix", [*FILES, "parquet", "arrow"])
def test_tables_are_read_alike(tmp_path, suffix):
    for part in ("train", "valid", "test"):
        file = tmp_path / f"{part}.{suffix}"
        if suffix in FILES:
            put(file, FILES[suffix])
            continue
        pa = pytest.importorskip("pyarrow")
        names = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["farm", "sea"]}}}}
        table = pa.table({"text": ["the cow", "a net"], "label": [0, 1]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
        if suffix == "parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, file)
        else:
            with pa.OSFile(str(file), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
                writer.write_table(table)
    dataset = TextFolder(root=str(tmp_path), length=8)
    data = dataset.load()
    assert not check_data(data, dataset.samples)
    assert data.classes == ("farm", "sea")
    assert (len(data.train), len(data.validation.x), len(data.test.x)) == (2, 2, 2)
    assert data.bank.y.tolist() == [0, 1]
    assert read_tokenizer(data.assets["tokenizer.json"]).decode(data.train[0].tolist()) == "the cow"
    assert dataset.describe() == "3 files, 2 train, 2 test, 2 validation texts, 2 classes"


def test_folders_are_classes_and_shares_are_held_out(tmp_path):
    for topic in ("farm", "sea"):
        put(tmp_path / topic / "a.txt", "".join(f"{topic} {number}\n\n" for number in range(20)))
    data = TextFolder(root=str(tmp_path), tokenizer="words").load()
    assert data.classes == ("farm", "sea")
    assert (len(data.train), len(data.validation.x), len(data.test.x)) == (32, 4, 4)
    assert data.train is data.bank.x
    rows = {tuple(row) for part in (data.train, data.validation.x, data.test.x) for row in part.tolist()}
    assert len(rows) <= 40
    one = TextFolder(root=str(tmp_path), unit="file", validation=0.0, test=0.0)
    assert one.rows == 2


def test_texts_without_classes_are_held_out_as_well(tmp_path):
    lines = [f"line {number}" for number in range(40)]
    put(tmp_path / "notes.txt", "\n".join(lines))
    dataset = TextFolder(root=str(tmp_path))
    data = dataset.load()
    assert (len(data.train), len(data.validation.x), len(data.test.x)) == (dataset.rows, 4, 4) == (32, 4, 4)
    assert (data.bank, data.validation.y, data.test.y, data.classes) == (None, None, None, ())
    assert not check_data(data, dataset.samples)
    decode = read_tokenizer(data.assets["tokenizer.json"]).decode
    rows = [decode(row) for part in (data.train, data.validation.x, data.test.x) for row in part.tolist()]
    assert sorted(rows) == sorted(lines)
    put(tmp_path / "valid.txt", "another line")
    data = TextFolder(root=str(tmp_path)).load()
    assert [decode(row) for row in data.validation.x.tolist()] == ["another line"]


def test_a_task_has_its_loss_on_texts_without_classes(here, capsys):
    put("notes/train.txt", "\n".join(f"the cow was fed by {number}" for number in range(16)))
    put("notes/valid.txt", "\n".join(f"the net was seen by {number}" for number in range(8)))
    small = "model.width=16 model.depth=1 model.heads=2 device=cpu batch_size=4 length=2st dataset.length=12"
    evaluators = "evaluator=[loss,similarity,abx,probe,geometry]"
    said = enter(capsys, f"pretext=clm dataset=text_folder dataset.root=notes {small} {evaluators} hydra.run.dir=run")
    assert "not measured while training, as the dataset has no labels: similarity, abx, probe" in said
    final = summary("run")["final"]
    assert {"loss/perplexity", "test/loss/perplexity"} <= final.keys()
    put("pairs.tsv", "the cow\tthe cow\t5\na net\tthe cow\t1\nby 7\ta cow\t2\n")
    bare = "dataset.validation=0 dataset.test=0 dataset.root=notes/train.txt"
    scored = "evaluator=[loss,similarity] evaluator.similarity.file=pairs.tsv"
    said = enter(capsys, f"pretext=clm dataset=text_folder {bare} {small} {scored} hydra.run.dir=bare")
    assert "not measured while training, as there is no validation split: loss" in said
    assert "similarity/spearman" in summary("bare")["final"]


@pytest.mark.parametrize(("unit", "rows"), [("line", 3), ("paragraph", 2), ("file", 1), ("chunk", 4)])
def test_units_of_plain_files(tmp_path, unit, rows):
    put(tmp_path / "notes.txt", "one two\nthree\n\nfour five\n")
    dataset = TextFolder(root=str(tmp_path), unit=unit, length=8, validation=0.0, test=0.0)
    data = dataset.load()
    assert len(data.train) == dataset.rows == rows
    assert (data.bank, data.validation, data.test) == (None, None, None)
    if unit == "chunk":
        tokenizer = read_tokenizer(data.assets["tokenizer.json"])
        assert "".join(map(tokenizer.decode, data.train.tolist())) == "one two\nthree\n\nfour five\n"


@pytest.mark.parametrize(
    ("text", "settings", "pieces"),
    [
        ("one, two three", {"tokenizer": "words", "length": 2}, ["one, ", "two three"]),
        ("ab cd efghijklm", {"length": 5}, ["ab cd", " efgh", "ijklm"]),
        ("牛在田里吃草", {"length": 7}, ["牛在", "田里", "吃草"]),
        ("牛é", {"length": 1}, ["牛", "é"]),
        ("a 牛在田里吃草", {"length": 9}, ["a 牛在", "田里吃", "草"]),
        ("one two three four", {"tokenizer": "bpe", "length": 3}, ["one two", " three", " four"]),
    ],
)
def test_a_chunk_ends_with_a_word_and_loses_nothing(tmp_path, text, settings, pieces):
    put(tmp_path / "notes.txt", text)
    dataset = TextFolder(root=str(tmp_path), unit="chunk", **settings)
    assert cut_text(text, dataset.tokenizer, dataset.length) == pieces
    assert "".join(pieces) == text


def test_what_is_fitted_has_seen_training_rows_alone(tmp_path):
    put(tmp_path / "train.txt", "a b\n")
    put(tmp_path / "test.txt", "zebra b b b b b\n")
    content = TextFolder(root=str(tmp_path), tokenizer="words").load().assets["tokenizer.json"]
    assert b"zebra" not in content


@pytest.mark.parametrize(
    ("content", "given", "words"),
    [
        ("the cow\n", {"tokenizer": "none.json"}, "possible are bytes, words, bpe, or a file tokenizer.json"),
        ("the cow\n", {"tokenizer": "bpe", "vocabulary": 200}, "and bpe begins with 257"),
        ("  \n\n", {}, "has no text but empty ones"),
        (b"caf\xe9 latin\n", {}, "is no UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused(here, content, given, words):
    Path("notes").mkdir()
    Path("notes/a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        TextFolder(root="notes", **given).load()


def test_tables_and_folders_that_cannot_be_are_refused(here):
    for root, words in (("absent", "does not exist"), (".", "has no file of .txt")):
        with pytest.raises(FileNotFoundError, match=words):
            TextFolder(root=root)
    put("a.jsonl", '{"body": "the cow"}\n')
    with pytest.raises(ValueError, match=r"has the columns body; type dataset\.text=COLUMN"):
        TextFolder(root=".")
    with pytest.raises(ValueError, match="has no column txt; it has body"):
        TextFolder(root=".", text="txt")
    assert TextFolder(root=".", text="body").rows == 1
    put("a.jsonl", '{"body": "the cow"}\nno json\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: no JSON"):
        TextFolder(root=".", text="body")
    Path("a.jsonl").unlink()
    put("other.json", '{"model": 3}')
    put("a.txt", "the cow\n")
    with pytest.raises(ValueError, match=r"tokenizer: other\.json is no tokenizer\.json"):
        TextFolder(root=".", tokenizer="other.json")


def test_much_that_is_unknown_or_cut_off_is_told(here, caplog):
    put("train.txt", "a b c d e f g h i j\n" * 9 + "rare words here now\n")
    put("test.txt", "other words than those\n")
    with caplog.at_level(logging.WARNING, "ssl_runner"):
        TextFolder(root="train.txt", tokenizer="words", vocabulary=11, length=5, validation=0.0, test=0.0).load()
    lines = [each.getMessage() for each in caplog.records]
    assert lines[0].startswith("train: the tokenizer does not know 1")
    assert lines[1].endswith("cut off at 5 tokens, the longest of 10; type a larger dataset.length")
    put("few.txt", "a a\n")
    content = fit_words(["zebra"], 10, True).content
    put("tokenizer.json", content.decode())
    with pytest.raises(ValueError, match=r"does not know 100% of the tokens; type .*=bytes, or a file that knows more"):
        TextFolder(root="few.txt", tokenizer="tokenizer.json").load()


def test_what_cannot_help_texts_that_a_run_reads_is_not_said(here, caplog):
    """Neither a tokenizer nor a length is asked for where the run's own are taken."""
    put("few.txt", "a zebra a zebra a a a\n")
    assets = {"tokenizer.json": fit_words(["a zebra"], 10, True).content}
    dataset = TextFolder(root="few.txt", tokenizer="bytes").read_as(Samples("text", (4,), vocabulary=10), assets)
    with caplog.at_level(logging.WARNING, "ssl_runner"):
        dataset.load()
    given = "they are read as the run has read its own: give other texts, or train a run on these"
    assert [each.partition("; ")[2] for each in caplog.messages] == [given]
    put("few.txt", "b c d a\n")
    with pytest.raises(ValueError, match=f"does not know 75% of the tokens; {given}"):
        dataset.read_as(Samples("text", (4,), vocabulary=10), assets).load()


def test_words_are_dropped_only_for_an_id_that_is_no_token(here, capsys):
    pytest.importorskip("tokenizers")
    Path("own.json").write_bytes(fit_pieces(["a net"], 300, True).content)
    put("a.txt", "the cow\n" * 90)
    for task, tokenizer in {"tsdae": "bpe", "simcse": "own.json"}.items():
        words = [f"pretext={task}", "dataset=text_folder", "dataset.root=a.txt", f"dataset.tokenizer={tokenizer}"]
        told = f"of dataset.tokenizer={tokenizer} that is a token as any other; type pretext.augment.word_dropout=0 "
        told += "pretext.augment.deletion=0.3, or dataset.tokenizer=words"
        refusal(capsys, [*words, "pretext.augment.word_dropout=0.3"], "pretext.augment.word_dropout: given 0.3, ", told)
    spared = [TextFolder(root="a.txt", tokenizer=each).spares_one for each in ("words", "bytes", "bpe")]
    assert spared == [True, True, False]


def test_other_texts_are_read_by_an_encoders_tokenizer(here, capsys):
    """`evaluate RUN dataset=other` reads what it is given as the run has read its own."""
    drawn = Grammar(sentences=40, seed=7).load()
    put("notes/train.txt", "\n".join(" ".join(words) for words in words_of(drawn, SimpleNamespace(x=drawn.train))))
    small = (
        "model.width=16 model.depth=1 model.heads=2 device=cpu batch_size=4 length=2st log_every=1st save_every=100%"
    )
    data = "dataset=text_folder dataset.root=notes dataset.tokenizer=words dataset.vocabulary=70 dataset.length=12"
    enter(
        capsys,
        f"pretext=mlm {data} {small} hydra.run.dir=run evaluator=none",
        "32 train, 4 test, 4 validation texts, no classes",
    )
    source = find_encoder(Path("run"))
    tokenizer = read_tokenizer(source.assets["tokenizer.json"])
    other = Grammar(sentences=40).read_as(source.samples, source.assets)
    assert other.samples == source.samples == Samples("text", (12,), vocabulary=70)
    words = {word for row in other.load().train.tolist() for word in tokenizer.decode(row).split()}
    assert words <= json.loads(source.assets["tokenizer.json"])["model"]["vocab"].keys()
    assert "[UNK]" in words
    grammar = "dataset=grammar dataset.sentences=100 dataset.test=20"
    said = enter(capsys, f"evaluate run knn {grammar} evaluator.knn.k=3", "the tokenizer does not know")
    assert "written to run" in said
    assert summary("run")["status"] == "completed"


def test_weights_go_on_with_the_tokenizer_that_they_were_learnt_with(here, capsys):
    put("notes.txt", "the cow was fed\n" * 6 + "a net\n" * 6)
    put("other.txt", "the cow was here\n" * 6 + "a net\n" * 6)
    small = (
        "model.width=16 model.depth=1 model.heads=2 device=cpu batch_size=4 length=2st log_every=1st save_every=100%"
    )
    data = "dataset=text_folder dataset.vocabulary=20 dataset.length=12 evaluator=none"
    words = "dataset.tokenizer=words"
    enter(capsys, f"pretext=mlm {data} {words} {small} dataset.root=notes.txt hydra.run.dir=run")
    on = f"pretext=simcse {data} {small} init=run"
    enter(capsys, f"{on} {words} dataset.root=notes.txt hydra.run.dir=same")
    line = "was trained with another tokenizer.json than that of the data; type dataset.tokenizer=run/tokenizer.json"
    enter(capsys, f"{on} {words} dataset.root=other.txt hydra.run.dir=no", line, status=2)
    enter(capsys, f"{on} dataset.tokenizer=run/tokenizer.json dataset.root=other.txt hydra.run.dir=yes")


@pytest.mark.parametrize("tokenizer", ["bytes", "words"])
def test_the_documented_way_to_go_on_from_a_run_of_texts_works(here, capsys, tokenizer):
    """A file of bytes has 257 ids, and words may be fewer than were asked for: the weights are of the latter."""
    put("notes.txt", "the cow was fed\n" * 6 + "a net\n" * 6)
    small = (
        "model.width=16 model.depth=1 model.heads=2 device=cpu batch_size=4 length=2st log_every=1st save_every=100%"
    )
    data = "dataset=text_folder dataset.root=notes.txt evaluator=none"
    enter(capsys, f"pretext=mlm {data} {small} dataset.tokenizer={tokenizer} hydra.run.dir=run")
    on = f"pretext=mlm {data} {small} init=run dataset.tokenizer"
    said = enter(capsys, f"{on}=bpe hydra.run.dir=no dataset.vocabulary=300", "does not fit the model", status=2)
    words = ["run/tokenizer.json", *(["dataset.vocabulary=2000"] if tokenizer == "words" else [])]
    assert f"type dataset.tokenizer={' '.join(words)}\n" in said
    enter(capsys, f"{on}={' '.join(words)} hydra.run.dir=yes")
    enter(capsys, f"{on}=run/tokenizer.json dataset.vocabulary=300 init=null hydra.run.dir=wider")
    assert find_encoder(Path("wider")).samples.vocabulary == 300, "at least what was typed"


def test_a_file_has_its_own_number_of_ids_and_at_least_what_was_typed(here):
    put("notes.txt", "the cow was fed\n")
    put("tokenizer.json", byte_tokenizer(True).content.decode())
    for dataset in (lambda **given: TextFolder(root="notes.txt", **given), lambda **given: Grammar(**given)):
        numbers = [dataset(tokenizer="tokenizer.json", vocabulary=n).samples.vocabulary for n in (None, 100, 300)]
        assert numbers == [257, 257, 300]
    fitted = [each.samples.vocabulary for each in (TextFolder(root="notes.txt", tokenizer="words"), Grammar())]
    assert fitted == [2000, 275]
    assert byte_tokenizer(True).decode([ord("a") + 1, 257, 1999, ord("b") + 1]) == "ab"


def test_a_relative_tokenizer_is_found_from_other_folders(here, capsys, monkeypatch):
    put("notes.csv", "text,label\n" + "the cow was fed,farm\n" * 10 + "a net,sea\n" * 10)
    put("tok.json", fit_words(["the cow was fed", "a net"], 10, True).content.decode())
    small = "model.width=16 model.depth=1 model.heads=2 device=cpu batch_size=4 length=2st log_every=1st save_every=1st"
    data = "dataset=text_folder dataset.root=notes.csv dataset.tokenizer=tok.json evaluator=none"
    enter(capsys, f"pretext=mlm {data} {small} hydra.run.dir=run")
    Path("away").mkdir()
    monkeypatch.chdir("away")
    enter(capsys, "rerun ../run --to again --strict", "bit-identical")
    enter(capsys, "evaluate ../run knn evaluator.knn.k=3", "written to ../run")
