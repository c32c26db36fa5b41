package dev.edgekit;

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** Texts to token ids, as tokenizer.json says, or by a table of characters. */
final class TextTransform {
    private final TextSpec spec;
    private final int limitBytes;
    private final WordPiece wordPiece;
    private final Map<Integer, Integer> codes = new HashMap<>();

    TextTransform(TextSpec spec, int limitBytes, BundleFiles files) {
        this.spec = spec;
        this.limitBytes = limitBytes;
        boolean json = spec.tokenizer.file != null;
        wordPiece = json ? new WordPiece(files.read(spec.tokenizer.file), spec.tokenizer.addSpecialTokens) : null;
        if (!json) {
            int[] alphabet = spec.tokenizer.alphabet.codePoints().toArray();
            for (int i = 0; i < alphabet.length; i++) {
                codes.put(alphabet[i], i + 1);
            }
        }
    }

    Map<String, Tensor> transform(String text) {
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            boolean pair = Character.isHighSurrogate(c)
                    && i + 1 < text.length()
                    && Character.isLowSurrogate(text.charAt(i + 1));
            if (Character.isSurrogate(c) && !pair) {
                throw new InputError("text: not valid Unicode at character " + i + " (a lone surrogate)");
            }
            i += pair ? 1 : 0;
        }
        if (text.getBytes(StandardCharsets.UTF_8).length > limitBytes) {
            throw new InputError("text: at most " + limitBytes + " bytes");
        }
        String lower = spec.lowercase ? text.toLowerCase(Locale.ROOT) : text;
        WordPiece.Tokens tokens = wordPiece == null
                ? characters(lower)
                : wordPiece.encode(lower, spec.maxLength, spec.truncation);
        int count = tokens.ids.size();
        if (count > spec.maxLength) {
            throw new InputError("text: at most " + spec.maxLength + " tokens, got " + count);
        }
        int width = spec.padding.equals("max_length") ? spec.maxLength : count;
        long[] ids = new long[width];
        long[] mask = new long[width];
        long[] typeIds = new long[width];
        java.util.Arrays.fill(ids, spec.padId);
        int start = spec.padLeft ? width - count : 0;
        for (int i = 0; i < count; i++) {
            ids[start + i] = tokens.ids.get(i);
            mask[start + i] = 1;
            typeIds[start + i] = tokens.typeIds.get(i);
        }
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        tensors.put(spec.ids, Tensor.of(ids, 1, width).cast(spec.datatype));
        if (spec.mask != null) {
            tensors.put(spec.mask, Tensor.of(mask, 1, width).cast(spec.datatype));
        }
        if (spec.typeIds != null) {
            tensors.put(spec.typeIds, Tensor.of(typeIds, 1, width).cast(spec.datatype));
        }
        return tensors;
    }

    private WordPiece.Tokens characters(String text) {
        java.util.List<Integer> ids = new java.util.ArrayList<>();
        text.codePoints().forEach(code -> {
            int id = codes.getOrDefault(code, spec.tokenizer.unknownId);
            if (id >= 0) {
                ids.add(id);
            }
        });
        int over = spec.truncation.equals("error") ? 0 : Math.max(ids.size() - spec.maxLength, 0);
        int from = spec.truncation.equals("left") ? over : 0;
        WordPiece.Tokens tokens = new WordPiece.Tokens();
        ids.subList(from, from + ids.size() - over).forEach(id -> tokens.add(id, 0));
        return tokens;
    }
}
