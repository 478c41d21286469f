"""The page: well formed, complete, alone, and with the numbers of the statistics."""

from __future__ import annotations

import re

import pytest

from fedlight.benchmark.measures import MEASURES
from fedlight.benchmark.report.findings import Findings
from fedlight.benchmark.report.notation import fixed, interval, signed
from tests.benchmark.report.conftest import NAMES, Written
from tests.benchmark.report.html_document import Document


@pytest.fixture(scope="module")
def page(written: Written) -> Document:
    return Document(written.text("report.html"))


def test_tags_nest_and_no_id_appears_twice(page: Document) -> None:
    ids = page.values("id")
    assert page.problems == []
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_from_elsewhere(page: Document, written: Written) -> None:
    text = written.text("report.html")
    loaded = [*page.values("src"), *page.values("srcset"), *page.values("xlink:href"), *page.values("data")]
    assert not page.of("link")
    assert all(address.startswith(("#", "data:")) for address in loaded)
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    assert "http" not in text


def test_every_link_and_every_label_leads_somewhere(page: Document) -> None:
    ids = set(page.values("id"))
    links = [element.attributes["href"] or "" for element in page.of("a")]
    labels = [name for value in page.values("aria-labelledby") for name in value.split()]
    assert links
    assert {link.removeprefix("#") for link in links} | set(labels) <= ids


def test_every_section_is_in_the_contents(page: Document) -> None:
    listed = {(element.attributes["href"] or "")[1:] for element in page.of("a")}
    assert {element.attributes["id"] for element in page.of("section")} <= listed


def test_pictures_have_words_and_headings_a_scope(page: Document) -> None:
    assert all(svg.attributes.get("role") == "img" for svg in page.of("svg"))
    assert len(page.of("svg")) == len([e for e in page.of("desc") if len(e.text) > 40]) == 7
    assert all(heading.attributes.get("scope") in ("col", "row") for heading in page.of("th"))
    assert all(image.attributes.get("alt") for image in page.of("img"))


def test_every_arm_and_site_appears_in_tables_and_figures(page: Document) -> None:
    drawn = " ".join(element.text for element in page.of("text"))
    for name in NAMES:
        assert any(row[0].startswith(name) for row in page.table("held_out")), name
        assert name in drawn, name
    for site in ("chase", "drive", "hrf"):
        assert site in [row[0] for row in page.table("data")]
        assert site in drawn


def test_numbers_are_those_of_the_statistics(page: Document, findings: Findings) -> None:
    rows = page.table("held_out")
    assert len(rows) == len(findings.headline)
    for shown, row in zip(rows, findings.headline.to_dict("records"), strict=True):
        assert shown[0].removesuffix(" †") == row["arm"]
        assert shown[1:6] == [
            fixed(row["dice"]),
            fixed(row["dice_sd"]),
            signed(row["difference"]),
            interval(row["low"], row["high"]),
            fixed(row["rank"], 1),
        ]
        assert shown[6] == f"{row['worst_site']} {fixed(row['worst_site_dice'])}"
        assert shown[8] == MEASURES["miss"].text(row["miss"])


def test_held_out_and_in_federation_scores_never_share_a_table(page: Document, findings: Findings) -> None:
    inside = page.table("in_federation")
    assert [row[1] for row in inside] == [fixed(value) for value in findings.in_federation["dice"]]
    assert {row[1] for row in inside}.isdisjoint(row[1] for row in page.table("held_out"))


def test_every_claim_has_its_verdict_in_words(page: Document, findings: Findings) -> None:
    shown = [element.text for element in page.of("li") if "holds" in element.text or "not" in element.text]
    for _, rows in findings.claims.groupby("claim"):
        decisive = rows[rows["decisive"]].iloc[0] if rows["decisive"].any() else rows.iloc[0]
        assert any(decisive["statement"].removesuffix(".") in text and decisive["verdict"] in text for text in shown)


def test_failed_and_missing_jobs_are_named(page: Document) -> None:
    """Six arms, three sites and two seeds are 36 jobs, of which one failed and one is missing."""
    assert page.table("failed_jobs") == [["mixstyle", "hrf", "1", "The loss is not finite in round 2."]]
    text = " ".join(" ".join(element.text.split()) for element in page.of("p"))
    assert "34 of 36 planned jobs done, 1 failed, 1 missing" in text
    assert "mixstyle and pooled" in text
    assert [row[0] for row in page.table("held_out") if row[0].endswith("†")] != []


def test_units_and_the_small_number_of_sites_are_said(page: Document, written: Written) -> None:
    text = written.text("report.html")
    assert "HD95 px" in text
    assert "In pixels" in text
    assert "The number of sites is small (3)" in text


def test_every_number_of_a_table_is_explained_on_the_page(page: Document) -> None:
    named = {element.text.strip().removesuffix(":").replace("\xa0", " ") for element in page.of("dt")}
    headings = {e.text.strip().replace("\xa0", " ") for e in page.of("th") if e.attributes.get("scope") == "col"}
    plain = {
        "Arm",
        "Against",
        "Site",
        "Held-out site",
        "Held out",
        "Seed",
        "Reason",
        "Rule",
        "Case",
        "Verdict",
        "Cases",
    }
    plain |= {"Comparison", "Decides", "Cases when held out", "Training cases when it trains", "chase", "drive", "hrf"}
    assert headings - plain <= named


def test_commands_versions_and_seeds_are_there(written: Written) -> None:
    text = written.text("report.html")
    assert "fedlight fit -c configs/retina.yaml --data.held_out drive --seed_everything 1" in text
    assert "commit 0123456" in text
    assert "torch 2.15.0" in text
    assert "2 seeds (0 and 1)" in text


def test_markdown_has_the_same_numbers_and_its_figures(written: Written, findings: Findings) -> None:
    text = written.text("report.md").replace("**", "")
    for row in findings.headline.to_dict("records"):
        assert f"| {row['arm']} | {fixed(row['dice'])} ±" in text
    for name in re.findall(r"\]\((figures/\w+\.svg)\)", text):
        assert (written.output / name).is_file()


def test_latex_tables_have_as_many_cells_in_every_row(written: Written) -> None:
    files = sorted((written.output / "tables").glob("*.tex"))
    wanted = {"headline", "in_federation", "sites", "paired", "selection", "claims", "data", "costs", "failed_jobs"}
    assert wanted <= {file.stem for file in files}
    for file in files:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1, file.name
    assert r"a$<$b$>$\_\&\%" in written.text("tables/headline.tex")


def test_figures_are_written_for_a_paper(written: Written) -> None:
    names = {path.stem for path in (written.output / "figures").glob("*.svg")}
    assert names == {path.stem for path in (written.output / "figures").glob("*.png")}
    assert len(names) == 7
    assert all("var(" not in path.read_text() for path in (written.output / "figures").glob("*.svg"))
