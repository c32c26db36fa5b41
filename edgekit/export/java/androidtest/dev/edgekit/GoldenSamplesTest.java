package dev.edgekit;

import static org.junit.Assert.assertTrue;

import android.content.res.AssetManager;
import android.util.Log;
import androidx.test.ext.junit.runners.AndroidJUnit4;
import androidx.test.platform.app.InstrumentationRegistry;
import dev.edgekit.android.AssetBundle;
import org.junit.Test;
import org.junit.runner.RunWith;

/** On the device: the golden samples give what they must. The lines, timings among them, go to the log (tag edgekit). */
@RunWith(AndroidJUnit4.class)
public final class GoldenSamplesTest {
    private static final int RUNS = 20;

    @Test
    public void goldenSamplesGiveWhatTheyMust() {
        AssetManager app = InstrumentationRegistry.getInstrumentation().getTargetContext().getAssets();
        AssetManager own = InstrumentationRegistry.getInstrumentation().getContext().getAssets();
        try (Predictor predictor = AssetBundle.load(app, "edgekit/@NAME@", 0)) {
            GoldenCheck first = new GoldenCheck(predictor, new AssetBundle(own, "edgekit-golden/@NAME@"));
            for (String line : first.run()) {
                Log.i("edgekit", line);
            }
            for (int i = 1; i < RUNS; i++) {
                for (String line : new GoldenCheck(predictor, new AssetBundle(own, "edgekit-golden/@NAME@")).run()) {
                    if (line.endsWith(" ms")) {
                        Log.i("edgekit", "run " + i + ", " + line);
                    }
                }
            }
            assertTrue("a golden sample is not reproduced: see the log, tag edgekit", first.passed());
        }
    }
}
