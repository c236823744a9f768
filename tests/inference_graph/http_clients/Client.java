import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;

/** Java's two HTTP clients as they come; arguments: lines of id, method, url, content type, file. */
public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] one = line.split("\t", -1);
            byte[] body = one[4].isEmpty() ? null : Files.readAllBytes(Path.of(one[4]));
            for (boolean streamed : body == null ? new boolean[] {false} : new boolean[] {false, true}) {
                HttpRequest.BodyPublisher publisher = body == null ? BodyPublishers.noBody()
                    : streamed ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                    : BodyPublishers.ofByteArray(body);
                HttpRequest.Builder request =
                    HttpRequest.newBuilder(URI.create(one[2])).method(one[1], publisher);
                if (!one[3].isEmpty()) request.header("Content-Type", one[3]);
                tell(one[0], "java.net.http", client.send(request.build(), BodyHandlers.ofString()).statusCode());
                HttpURLConnection old = (HttpURLConnection) URI.create(one[2]).toURL().openConnection();
                old.setRequestMethod(one[1]);
                if (!one[3].isEmpty()) old.setRequestProperty("Content-Type", one[3]);
                if (body != null) {
                    old.setDoOutput(true);
                    if (streamed) old.setChunkedStreamingMode(0);
                    old.getOutputStream().write(body);
                    old.getOutputStream().close();
                }
                int status = old.getResponseCode();
                InputStream read = status < 400 ? old.getInputStream() : old.getErrorStream();
                if (read != null) read.readAllBytes();
                tell(one[0], "HttpURLConnection", status);
            }
        }
    }

    private static void tell(String id, String client, int status) {
        System.out.println(id + "\t" + client + "\t" + status);
    }
}
