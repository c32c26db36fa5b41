"""Writes BertRanges.java: which characters the `tokenizers` library cleans, strips, sets apart and splits at.

    python tests/golden/make_bert_ranges.py

The library's tables are of several Unicode versions and a phone's of another, so the Java library carries these.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import normalizers, pre_tokenizers

JAVA = Path(__file__).resolve().parents[2] / "edgekit/export/java/core/dev/edgekit/BertRanges.java"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def _normalizer(**only: bool) -> normalizers.BertNormalizer:
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return normalizers.BertNormalizer(**{**off, **only})


def find() -> dict[str, list[int]]:
    """Code points by what the library does with each alone."""
    clean, strip = _normalizer(clean_text=True), _normalizer(strip_accents=True)
    chinese, split = _normalizer(handle_chinese_chars=True), pre_tokenizers.BertPreTokenizer()
    found: dict[str, list[int]] = {n: [] for n in ("REMOVED", "CLEANED", "MARKS", "CHINESE", "PUNCTUATION", "SPACES")}
    for code in CODE_POINTS:
        character = chr(code)
        cleaned = clean.normalize_str(character)
        if cleaned != character:
            found["CLEANED" if cleaned == " " else "REMOVED"].append(code)
        if strip.normalize_str(character) == "":
            found["MARKS"].append(code)
        if chinese.normalize_str(character) != character:
            found["CHINESE"].append(code)
        words = len(split.pre_tokenize_str(f"a{character}b"))
        if words > 1:
            found["PUNCTUATION" if words == 3 else "SPACES"].append(code)
    return found


def ranges(codes: list[int]) -> str:
    """`first-last` in hexadecimal, `first` alone for one."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in runs)


def lower_runs() -> str:
    """Capitals whose small letter is one character: `first-last+delta`, `first-last/2+delta` for every second one."""
    lower = _normalizer(lowercase=True)
    runs: list[list[int]] = []
    for code in CODE_POINTS:
        small = lower.normalize_str(chr(code))
        delta = ord(small) - code if len(small) == 1 else 0
        if delta == 0:
            continue
        if runs and runs[-1][3] == delta and code - runs[-1][1] in (1, 2):
            first, last, step, _ = runs[-1]
            if step in (0, code - last):
                runs[-1] = [first, code, code - last, delta]
                continue
        runs.append([code, code, 0, delta])
    return " ".join(f"{first:x}-{last:x}{'/2' if step == 2 else ''}{delta:+d}" for first, last, step, delta in runs)


def java(found: dict[str, list[int]]) -> str:
    """The source file."""
    lines = [
        "package dev.edgekit;",
        "",
        "/** Character classes of Hugging Face's tokenizers, by hexadecimal ranges; made by make_bert_ranges.py. */",
        "final class BertRanges {",
    ]
    tables = {name: ranges(codes) for name, codes in found.items()} | {"LOWER": lower_runs()}
    for name, text in tables.items():
        lines.append(
            f"    private static final String {name}_TEXT ="
            if name == "LOWER"
            else f"    static final int[] {name} = parse("
        )
        words, rows = text.split(" "), [""]
        for word in words:
            if len(rows[-1]) + len(word) > 95:
                rows.append("")
            rows[-1] += word + " "
        end = ";" if name == "LOWER" else ");"
        lines += [f'            "{row}"{" +" if row is not rows[-1] else end}' for row in rows]
        lines.append("")
    lines += [
        "    private BertRanges() {}",
        "",
        "    private static int[] parse(String text) {",
        '        String[] words = text.trim().split(" ");',
        "        int[] bounds = new int[2 * words.length];",
        "        for (int i = 0; i < words.length; i++) {",
        '            String[] ends = words[i].split("-");',
        "            bounds[2 * i] = Integer.parseInt(ends[0], 16);",
        "            bounds[2 * i + 1] = Integer.parseInt(ends[ends.length - 1], 16);",
        "        }",
        "        return bounds;",
        "    }",
        "",
        "    private static final java.util.Map<Integer, Integer> LOWER = lower();",
        "",
        "    private static java.util.Map<Integer, Integer> lower() {",
        "        java.util.Map<Integer, Integer> lower = new java.util.HashMap<>();",
        '        for (String run : LOWER_TEXT.trim().split(" ")) {',
        "            int sign = Math.max(run.indexOf('+'), run.lastIndexOf('-'));",
        '            String[] ends = run.substring(0, sign).split("[-/]");',
        "            int delta = Integer.parseInt(run.substring(sign));",
        "            for (int code = Integer.parseInt(ends[0], 16); code <= Integer.parseInt(ends[1], 16);"
        " code += ends.length - 1) {",
        "                lower.put(code, code + delta);",
        "            }",
        "        }",
        "        return lower;",
        "    }",
        "",
        "    /** The small letter of a code point, itself where it has none of one character. */",
        "    static int lower(int code) {",
        "        return LOWER.getOrDefault(code, code);",
        "    }",
        "",
        "    /** Whether a code point lies in one of the ranges. */",
        "    static boolean contain(int[] bounds, int code) {",
        "        int low = 0;",
        "        int high = bounds.length / 2 - 1;",
        "        while (low <= high) {",
        "            int middle = (low + high) / 2;",
        "            if (code < bounds[2 * middle]) {",
        "                high = middle - 1;",
        "            } else if (code > bounds[2 * middle + 1]) {",
        "                low = middle + 1;",
        "            } else {",
        "                return true;",
        "            }",
        "        }",
        "        return false;",
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    JAVA.write_text(java(find()), "utf-8")
