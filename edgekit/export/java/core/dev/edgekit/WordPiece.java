package dev.edgekit;

import java.text.Normalizer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A tokenizer.json of the BERT family: BertNormalizer, BertPreTokenizer, WordPiece, TemplateProcessing or BertProcessing. */
final class WordPiece {
    private final Map<String, Integer> vocabulary = new HashMap<>();
    private final Map<String, Integer> added = new HashMap<>();
    private final int unknown;
    private final String prefix;
    private final int longestWord;
    private final boolean normalizes;
    private final boolean clean;
    private final boolean chinese;
    private final boolean strip;
    private final boolean lowercase;
    private final boolean splits;
    private final List<long[]> before = new ArrayList<>();
    private final List<long[]> after = new ArrayList<>();
    private long typeId = 0;

    /** Ids and type ids of one text. */
    static final class Tokens {
        final List<Long> ids = new ArrayList<>();
        final List<Long> typeIds = new ArrayList<>();

        void add(long id, long typeId) {
            ids.add(id);
            typeIds.add(typeId);
        }
    }

    WordPiece(byte[] data, boolean addSpecialTokens) {
        Map<?, ?> document = table(Json.parse(data), "tokenizer.json");
        Map<?, ?> model = table(document.get("model"), "model");
        require(model.get("type"), "model.type", "WordPiece");
        for (Map.Entry<?, ?> entry : table(model.get("vocab"), "model.vocab").entrySet()) {
            vocabulary.put((String) entry.getKey(), ((Long) entry.getValue()).intValue());
        }
        prefix = (String) model.get("continuing_subword_prefix");
        longestWord = ((Long) model.get("max_input_chars_per_word")).intValue();
        Integer id = vocabulary.get((String) model.get("unk_token"));
        if (id == null) {
            throw new BundleError("tokenizer.json: model.unk_token is not in the vocabulary");
        }
        unknown = id;
        Map<?, ?> normalizer = document.get("normalizer") == null ? null : table(document.get("normalizer"), "normalizer");
        normalizes = normalizer != null;
        if (normalizes) {
            require(normalizer.get("type"), "normalizer.type", "BertNormalizer");
        }
        clean = normalizes && Boolean.TRUE.equals(normalizer.get("clean_text"));
        chinese = normalizes && Boolean.TRUE.equals(normalizer.get("handle_chinese_chars"));
        lowercase = normalizes && Boolean.TRUE.equals(normalizer.get("lowercase"));
        Object accents = normalizes ? normalizer.get("strip_accents") : null;
        strip = accents == null ? lowercase : Boolean.TRUE.equals(accents);
        splits = document.get("pre_tokenizer") != null;
        if (splits) {
            require(table(document.get("pre_tokenizer"), "pre_tokenizer").get("type"), "pre_tokenizer.type", "BertPreTokenizer");
        }
        for (Object item : (List<?>) document.get("added_tokens")) {
            Map<?, ?> token = table(item, "added_tokens");
            for (String flag : new String[] {"single_word", "lstrip", "rstrip", "normalized"}) {
                if (!Boolean.FALSE.equals(token.get(flag))) {
                    throw new BundleError("tokenizer.json: added_tokens." + flag + " is not carried out here");
                }
            }
            added.put((String) token.get("content"), ((Long) token.get("id")).intValue());
        }
        if (document.get("post_processor") != null) {
            readPostProcessor(table(document.get("post_processor"), "post_processor"));
        }
        if (!addSpecialTokens) { // a template still says the text's own type id
            before.clear();
            after.clear();
        }
    }

    private static Map<?, ?> table(Object value, String key) {
        if (!(value instanceof Map)) {
            throw new BundleError("tokenizer.json: " + key + " is not a table");
        }
        return (Map<?, ?>) value;
    }

    private static void require(Object found, String key, String wanted) {
        if (!wanted.equals(found)) {
            throw new BundleError("tokenizer.json: expected " + key + " " + wanted + ", got " + found);
        }
    }

    private void readPostProcessor(Map<?, ?> processor) {
        if ("BertProcessing".equals(processor.get("type"))) {
            before.add(new long[] {(Long) ((List<?>) processor.get("cls")).get(1), 0});
            after.add(new long[] {(Long) ((List<?>) processor.get("sep")).get(1), 0});
            return;
        }
        require(processor.get("type"), "post_processor.type", "TemplateProcessing");
        Map<?, ?> special = table(processor.get("special_tokens"), "post_processor.special_tokens");
        List<long[]> side = before;
        for (Object item : (List<?>) processor.get("single")) {
            Map<?, ?> piece = table(item, "post_processor.single");
            if (piece.containsKey("Sequence")) {
                typeId = (Long) table(piece.get("Sequence"), "Sequence").get("type_id");
                side = after;
                continue;
            }
            Map<?, ?> token = table(piece.get("SpecialToken"), "SpecialToken");
            Map<?, ?> known = table(special.get(token.get("id")), "special_tokens." + token.get("id"));
            for (Object id : (List<?>) known.get("ids")) {
                side.add(new long[] {(Long) id, (Long) token.get("type_id")});
            }
        }
    }

    /** Ids of a text; truncation `right` or `left` keeps maxLength of them, special ones included, `error` all. */
    Tokens encode(String text, int maxLength, String truncation) {
        List<Long> ids = new ArrayList<>();
        int start = 0;
        int at = 0;
        while (at < text.length()) {
            String token = addedAt(text, at);
            if (token == null) {
                at++;
                continue;
            }
            encodePiece(text.substring(start, at), ids);
            ids.add((long) added.get(token));
            at += token.length();
            start = at;
        }
        encodePiece(text.substring(start), ids);
        int room = maxLength - before.size() - after.size();
        if (!truncation.equals("error") && ids.size() > room) {
            int kept = Math.max(room, 0);
            ids = truncation.equals("right") ? ids.subList(0, kept) : ids.subList(ids.size() - kept, ids.size());
        }
        Tokens tokens = new Tokens();
        before.forEach(t -> tokens.add(t[0], t[1]));
        ids.forEach(id -> tokens.add(id, typeId));
        after.forEach(t -> tokens.add(t[0], t[1]));
        return tokens;
    }

    /** The longest added token that stands here. */
    private String addedAt(String text, int at) {
        String longest = null;
        for (String token : added.keySet()) {
            if (text.startsWith(token, at) && (longest == null || token.length() > longest.length())) {
                longest = token;
            }
        }
        return longest;
    }

    private void encodePiece(String piece, List<Long> ids) {
        if (piece.isEmpty()) {
            return;
        }
        int[] codes = normalized(piece).codePoints().toArray();
        int start = 0;
        for (int i = 0; i <= codes.length; i++) {
            boolean space = splits && i < codes.length && BertRanges.contain(BertRanges.SPACES, codes[i]);
            boolean mark = splits && i < codes.length && BertRanges.contain(BertRanges.PUNCTUATION, codes[i]);
            if (i == codes.length || space || mark) {
                encodeWord(codes, start, i, ids);
                start = i + 1;
            }
            if (mark) {
                encodeWord(codes, i, i + 1, ids);
            }
        }
    }

    private String normalized(String text) {
        if (!normalizes) {
            return text;
        }
        StringBuilder cleaned = new StringBuilder();
        text.codePoints().forEach(code -> {
            if (clean && BertRanges.contain(BertRanges.REMOVED, code)) {
                return;
            }
            int kept = clean && BertRanges.contain(BertRanges.CLEANED, code) ? ' ' : code;
            if (chinese && BertRanges.contain(BertRanges.CHINESE, kept)) {
                cleaned.append(' ').appendCodePoint(kept).append(' ');
            } else {
                cleaned.appendCodePoint(kept);
            }
        });
        String plain = strip ? Normalizer.normalize(cleaned, Normalizer.Form.NFD) : cleaned.toString();
        StringBuilder made = new StringBuilder();
        plain.codePoints().forEach(code -> {
            if (strip && BertRanges.contain(BertRanges.MARKS, code)) {
                return;
            }
            if (!lowercase) {
                made.appendCodePoint(code);
            } else if (code == 0x130) { // the one character whose lower case is two, whatever stands beside it
                made.append("i\u0307");
            } else {
                made.appendCodePoint(BertRanges.lower(code));
            }
        });
        return made.toString();
    }

    private void encodeWord(int[] codes, int start, int end, List<Long> ids) {
        if (start >= end) {
            return;
        }
        if (end - start > longestWord) {
            ids.add((long) unknown);
            return;
        }
        List<Long> pieces = new ArrayList<>();
        while (start < end) {
            int stop = end;
            Integer id = null;
            for (; stop > start && id == null; stop--) {
                String piece = new String(codes, start, stop - start);
                id = vocabulary.get(pieces.isEmpty() ? piece : prefix + piece);
            }
            if (id == null) {
                ids.add((long) unknown);
                return;
            }
            pieces.add((long) id);
            start = stop + 1;
        }
        ids.addAll(pieces);
    }
}
