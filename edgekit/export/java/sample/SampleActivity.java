// A sample to start from. It was NOT compiled when this module was exported: there is no Android SDK where bundles are made.
// Copy it into an app that depends on this module, and declare the activity, CAMERA and RECORD_AUDIO in the app's manifest.
package dev.edgekit.sample;

import android.Manifest;
import android.app.Activity;
import android.content.Intent;
import android.graphics.Bitmap;
import android.media.AudioFormat;
import android.media.AudioRecord;
import android.media.MediaRecorder;
import android.os.Bundle;
import android.provider.MediaStore;
import android.widget.Button;
import android.widget.EditText;
import android.widget.LinearLayout;
import android.widget.TextView;
import dev.edgekit.EdgekitError;
import dev.edgekit.Pixels;
import dev.edgekit.Predictor;
import dev.edgekit.Sound;
import dev.edgekit.android.AssetBundle;
import java.util.Arrays;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Camera, microphone and text, each answered by the bundle; predict runs on a thread of its own. */
public final class SampleActivity extends Activity {
    private static final int PHOTO = 1;
    private static final int RATE_HZ = 16000;
    private static final int SECONDS = 2;

    private final ExecutorService worker = Executors.newSingleThreadExecutor();
    private Predictor predictor;
    private EditText texts;
    private TextView answer;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        texts = new EditText(this);
        texts.setHint("texts, separated by commas");
        answer = new TextView(this);
        LinearLayout layout = new LinearLayout(this);
        layout.setOrientation(LinearLayout.VERTICAL);
        layout.addView(texts);
        layout.addView(button("Camera", () -> startActivityForResult(new Intent(MediaStore.ACTION_IMAGE_CAPTURE), PHOTO)));
        layout.addView(button("Microphone", () -> worker.execute(this::listen)));
        layout.addView(button("Text", () -> predict(null, texts.getText().toString(), null)));
        layout.addView(answer);
        setContentView(layout);
        requestPermissions(new String[] {Manifest.permission.CAMERA, Manifest.permission.RECORD_AUDIO}, 0);
        worker.execute(() -> predictor = AssetBundle.load(getAssets(), "edgekit/@NAME@", 0));
    }

    private Button button(String title, Runnable action) {
        Button button = new Button(this);
        button.setText(title);
        button.setOnClickListener(view -> action.run());
        return button;
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        super.onActivityResult(request, result, data);
        if (request != PHOTO || result != RESULT_OK || data == null || data.getExtras() == null) {
            return;
        }
        Bitmap photo = (Bitmap) data.getExtras().get("data"); // a thumbnail; a real app asks for the whole picture
        int[] colours = new int[photo.getWidth() * photo.getHeight()];
        photo.getPixels(colours, 0, photo.getWidth(), 0, 0, photo.getWidth(), photo.getHeight());
        predict(Pixels.argb(colours, photo.getWidth(), photo.getHeight()), candidates(), null);
    }

    private void listen() {
        int bytes = Math.max(
                AudioRecord.getMinBufferSize(RATE_HZ, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT),
                RATE_HZ * 2);
        AudioRecord record = new AudioRecord(
                MediaRecorder.AudioSource.VOICE_RECOGNITION,
                RATE_HZ,
                AudioFormat.CHANNEL_IN_MONO,
                AudioFormat.ENCODING_PCM_16BIT,
                bytes);
        short[] samples = new short[RATE_HZ * SECONDS];
        record.startRecording();
        int filled = 0;
        while (filled < samples.length) {
            int count = record.read(samples, filled, samples.length - filled);
            if (count <= 0) {
                break;
            }
            filled += count;
        }
        record.stop();
        record.release();
        if (filled > 0) {
            predict(null, candidates(), Sound.of(Arrays.copyOf(samples, filled), 1, RATE_HZ));
        }
    }

    /** The candidate texts of a zero-shot bundle; null for a bundle that takes no text. */
    private Object candidates() {
        String typed = texts.getText().toString().trim();
        return typed.isEmpty() ? null : Arrays.asList(typed.split("\\s*,\\s*"));
    }

    private void predict(Pixels image, Object text, Sound audio) {
        worker.execute(() -> {
            String said;
            try {
                said = predictor.predict(image, text, audio).toJson();
            } catch (EdgekitError error) {
                said = error.getMessage();
            }
            String shown = said;
            runOnUiThread(() -> answer.setText(shown));
        });
    }

    @Override
    protected void onDestroy() {
        worker.execute(() -> predictor.close());
        worker.shutdown();
        super.onDestroy();
    }
}
