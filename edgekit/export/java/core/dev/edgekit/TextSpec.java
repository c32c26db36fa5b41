package dev.edgekit;

import java.util.ArrayList;
import java.util.List;

/** How a text becomes token ids; the keys and their meanings are those of edgekit/specs/text.py. */
public final class TextSpec extends InputSpec {
    public final String ids;
    public final String mask;
    public final String typeIds;
    final Tokenizer tokenizer;
    final boolean lowercase;
    final int maxLength;
    final String truncation;
    final String padding;
    final boolean padLeft;
    final long padId;
    final String datatype;

    TextSpec(Fields f) {
        ids = f.text("ids");
        mask = f.textOrNull("mask");
        typeIds = f.textOrNull("type_ids");
        tokenizer = f.record("tokenizer", Tokenizer::new);
        lowercase = f.flag("lowercase");
        maxLength = f.whole("max_length");
        truncation = f.choice("truncation", "right", "left", "error");
        padding = f.choice("padding", "max_length", "longest", "none");
        padLeft = f.choice("pad_side", "right", "left").equals("left");
        padId = f.wholeLong("pad_id");
        datatype = f.choice("dtype", "int64", "int32").equals("int64") ? "INT64" : "INT32";
    }

    @Override
    List<String> values() {
        List<String> names = new ArrayList<>(List.of(ids));
        if (mask != null) {
            names.add(mask);
        }
        if (typeIds != null) {
            names.add(typeIds);
        }
        return names;
    }

    /** `file` for a tokenizer.json, `alphabet` for character codes; the other is null. */
    static final class Tokenizer {
        final String file;
        final boolean addSpecialTokens;
        final String alphabet;
        final int unknownId;

        Tokenizer(Fields f) {
            boolean json = f.choice("type", "tokenizer_json", "characters").equals("tokenizer_json");
            file = json ? f.text("file") : null;
            addSpecialTokens = json && f.flag("add_special_tokens");
            alphabet = json ? null : f.text("alphabet");
            unknownId = json ? 0 : f.whole("unknown_id");
        }
    }
}
