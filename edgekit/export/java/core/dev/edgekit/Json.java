package dev.edgekit;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON that means one thing only: no key twice, no NaN, bounded nesting. Values are null, Boolean, Long, Double, String,
 * List and Map (in the order written).
 */
public final class Json {
    private static final int NESTING_LIMIT = 64;

    private final String text;
    private int at = 0;

    private Json(String text) {
        this.text = text;
    }

    /** The value of these bytes. */
    public static Object parse(byte[] data) {
        String text;
        try {
            text = StandardCharsets.UTF_8
                    .newDecoder()
                    .onMalformedInput(CodingErrorAction.REPORT)
                    .onUnmappableCharacter(CodingErrorAction.REPORT)
                    .decode(ByteBuffer.wrap(data))
                    .toString();
        } catch (CharacterCodingException error) {
            throw new BundleError("not JSON (not UTF-8)");
        }
        Json reader = new Json(text);
        Object value = reader.value(0);
        reader.skip();
        if (reader.at != text.length()) {
            throw reader.wrong("more after the value");
        }
        return value;
    }

    private BundleError wrong(String problem) {
        return new BundleError("not JSON (" + problem + " at character " + at + ")");
    }

    private void skip() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char next() {
        if (at >= text.length()) {
            throw wrong("it ends early");
        }
        return text.charAt(at);
    }

    private void expect(String word) {
        if (!text.startsWith(word, at)) {
            throw wrong("expected " + word);
        }
        at += word.length();
    }

    private Object value(int depth) {
        if (depth > NESTING_LIMIT) {
            throw wrong("nested too deep");
        }
        skip();
        switch (next()) {
            case '{':
                return table(depth);
            case '[':
                return list(depth);
            case '"':
                return string();
            case 't':
                expect("true");
                return Boolean.TRUE;
            case 'f':
                expect("false");
                return Boolean.FALSE;
            case 'n':
                expect("null");
                return null;
            default:
                return number();
        }
    }

    private Map<String, Object> table(int depth) {
        Map<String, Object> table = new LinkedHashMap<>();
        expect("{");
        skip();
        if (next() == '}') {
            at++;
            return table;
        }
        while (true) {
            skip();
            String name = string();
            if (table.containsKey(name)) {
                throw new BundleError("manifest key '" + name + "': stands twice");
            }
            skip();
            expect(":");
            table.put(name, value(depth + 1));
            skip();
            if (next() == '}') {
                at++;
                return table;
            }
            expect(",");
        }
    }

    private List<Object> list(int depth) {
        List<Object> list = new ArrayList<>();
        expect("[");
        skip();
        if (next() == ']') {
            at++;
            return list;
        }
        while (true) {
            list.add(value(depth + 1));
            skip();
            if (next() == ']') {
                at++;
                return list;
            }
            expect(",");
        }
    }

    private String string() {
        expect("\"");
        StringBuilder out = new StringBuilder();
        while (true) {
            char c = next();
            at++;
            if (c == '"') {
                return out.toString();
            }
            if (c < ' ') {
                throw wrong("a control character in a string");
            }
            out.append(c == '\\' ? escaped() : c);
        }
    }

    private char escaped() {
        char c = next();
        at++;
        int plain = "\"\\/bfnrt".indexOf(c);
        if (plain >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(plain);
        }
        if (c != 'u' || at + 4 > text.length()) {
            throw wrong("an escape that is none");
        }
        try {
            int code = Integer.parseInt(text.substring(at, at + 4), 16);
            at += 4;
            return (char) code;
        } catch (NumberFormatException error) {
            throw wrong("an escape that is none");
        }
    }

    private Object number() {
        int start = at;
        boolean whole = true;
        while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
            whole &= ".eE".indexOf(text.charAt(at)) < 0;
            at++;
        }
        String digits = text.substring(start, at);
        if (!digits.matches("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?")) {
            throw wrong("expected a value");
        }
        try {
            if (whole) {
                return Long.valueOf(digits);
            }
        } catch (NumberFormatException error) {
            throw wrong("a whole number beyond 64 bits");
        }
        double value = Double.parseDouble(digits);
        if (Double.isInfinite(value)) {
            throw wrong("a number beyond what a double holds");
        }
        return value;
    }

    /** The text of a value; arrays of numbers are lists, floats are written so that they read back the same. */
    public static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(out, value);
        return out.toString();
    }

    private static void write(StringBuilder out, Object value) {
        if (value instanceof Map) {
            String before = "{";
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                out.append(before);
                writeString(out, String.valueOf(entry.getKey()));
                out.append(':');
                write(out, entry.getValue());
                before = ",";
            }
            out.append(before.equals("{") ? "{}" : "}");
        } else if (value instanceof List) {
            String before = "[";
            for (Object item : (List<?>) value) {
                out.append(before);
                write(out, item);
                before = ",";
            }
            out.append(before.equals("[") ? "[]" : "]");
        } else if (value instanceof float[]) {
            float[] numbers = (float[]) value;
            List<Object> list = new ArrayList<>(numbers.length);
            for (float number : numbers) {
                list.add((double) number);
            }
            write(out, list);
        } else if (value instanceof Tensor) {
            write(out, ((Tensor) value).toList());
        } else if (value instanceof String) {
            writeString(out, (String) value);
        } else if (value instanceof Double && !Double.isFinite((Double) value)) {
            double number = (Double) value;
            out.append(Double.isNaN(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity"); // as Python writes them
        } else {
            out.append(value);
        }
    }

    private static void writeString(StringBuilder out, String text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }
}
