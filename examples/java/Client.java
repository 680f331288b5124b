import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedTrustManager;
import org.fusesource.mqtt.client.Future;
import org.fusesource.mqtt.client.FutureConnection;
import org.fusesource.mqtt.client.MQTT;
import org.fusesource.mqtt.client.MQTTException;
import org.fusesource.mqtt.client.Message;
import org.fusesource.mqtt.client.QoS;

/**
 * Publishes a number every second, with the tokens of a mounted Secret (mqtt-client 1.16, which Debian has).
 *
 * <p>It reads the files before each CONNECT, uploads new tokens over the open connection, and stays away with dead ones.
 *
 * <ul>
 *   <li>MQTT_CREDENTIALS_DIR: where the token Secret is mounted (default /etc/mqtt)
 *   <li>MQTT_TOPIC: where to publish
 *   <li>POD_NAME: tells the clients of a group apart
 * </ul>
 */
public final class Client {
  private static final Path FOLDER = Path.of(System.getenv().getOrDefault("MQTT_CREDENTIALS_DIR", "/etc/mqtt"));
  private static final String TOPIC = System.getenv("MQTT_TOPIC");
  private static final long PATIENCE = 10; // seconds, for an acknowledgement
  private static final Duration LONGEST = Duration.ofMinutes(1);
  private static final Duration LONGEST_DEAD = Duration.ofMinutes(10);
  private static final Pattern OVER = Pattern.compile("\"code\"\\s*:\\s*[23]\\b"); // expired, revoked
  private static final Pattern REFUSED = Pattern.compile("BAD_USERNAME|NOT_AUTHORIZED");
  // The operator writes these documents, so that their form is known; a program with a JSON library uses that.
  private static final Pattern TOKEN = Pattern.compile("\\{\"type\":\"(\\w+)\",\"token\":\"([^\"]*)\"");

  /** One version of the Secret. */
  private record Secret(Path version, Map<String, String> files) {
    List<MatchResult> tokens() {
      return TOKEN.matcher(files.get("tokens.json")).results().toList();
    }

    List<String> types() {
      return tokens().stream().map(token -> token.group(1)).sorted().toList();
    }

    boolean isChanged() throws IOException {
      try {
        return !current().equals(version);
      } catch (NoSuchFileException replaced) {
        return true;
      }
    }
  }

  /** Where the files really are: the kubelet writes a new folder for each version, and moves a link to it. */
  private static Path current() throws IOException {
    return FOLDER.resolve("tokens.json").toRealPath().getParent();
  }

  /** Returns a version of the Secret and its files, all of that version. It waits until there is one. */
  private static Secret load() throws IOException, InterruptedException {
    for (boolean told = false; ; ) {
      Map<String, String> files = new HashMap<>();
      try {
        Path version = current();
        try (var names = Files.list(version)) {
          for (Path name : names.toList()) {
            files.put(name.getFileName().toString(), Files.readString(name));
          }
        }
        Secret secret = new Secret(version, files);
        if (!secret.isChanged()) {
          return secret;
        }
      } catch (NoSuchFileException missing) { // it is being replaced, or not there yet
        if (!told) {
          log("waiting: the folder holds no tokens");
        }
        told = true;
        Thread.sleep(200);
      }
    }
  }

  /** Waits for that long, and by chance half as long again: clients that were cut off together must not come back together. */
  private static void waitForChange(Secret secret, Duration atMost) throws IOException, InterruptedException {
    long most = (long) (atMost.toMillis() * (1 + Math.random() / 2));
    for (Instant until = Instant.now().plusMillis(most); !secret.isChanged() && Instant.now().isBefore(until); ) {
      Thread.sleep(200);
    }
  }

  /** The grant's own or, for a grant of a group, one made of the pod's name. */
  private static String clientId(Map<String, String> files) throws Exception {
    if (files.containsKey("client-id")) {
      return files.get("client-id");
    }
    String name = System.getenv("POD_NAME");
    String group = files.get("group-id");
    String device = name.replaceAll("[^A-Za-z0-9_-]", "-");
    int room = 64 - group.length() - "@@@".length();
    if (device.length() > room) {
      byte[] sum = MessageDigest.getInstance("SHA-256").digest(name.getBytes());
      String tail = "-" + HexFormat.of().formatHex(sum).substring(0, 8);
      tail = tail.substring(Math.max(0, tail.length() - room));
      device = device.substring(0, room - tail.length()) + tail;
    }
    return group + "@@@" + device;
  }

  /** Trusts the Secret's certificates, or the system's; and, other than the library by itself, only a broker of the right name. */
  private static SSLContext trust(String certificate) throws Exception {
    KeyStore store = null; // the system's
    if (certificate != null) {
      store = KeyStore.getInstance(KeyStore.getDefaultType());
      store.load(null);
      for (Certificate each : CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(certificate.getBytes()))) {
        store.setCertificateEntry("broker " + store.size(), each);
      }
    }
    TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    managers.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, new TrustManager[] {new ByName((X509ExtendedTrustManager) managers.getTrustManagers()[0])}, null);
    return context;
  }

  /** Has the certificate's name checked against the host that the connection is to. */
  private static final class ByName extends X509ExtendedTrustManager {
    private final X509ExtendedTrustManager chains;

    ByName(X509ExtendedTrustManager chains) {
      this.chains = chains;
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
      SSLParameters parameters = engine.getSSLParameters();
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      engine.setSSLParameters(parameters);
      chains.checkServerTrusted(chain, type, engine);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
      throw new CertificateException("not used");
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
      throw new CertificateException("not used");
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
      throw new CertificateException("not used");
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
      throw new CertificateException("not used");
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
      throw new CertificateException("not used");
    }

    @Override
    public X509Certificate[] getAcceptedIssuers() {
      return chains.getAcceptedIssuers();
    }
  }

  /** One connection, from CONNECT to its end. */
  private static final class Session {
    private Secret secret;
    private boolean isDead; // the broker does not take the tokens, or not any more
    private FutureConnection connection;
    private Future<Message> next;

    Session(Secret secret) {
      this.secret = secret;
    }

    String run() throws Exception {
      Map<String, String> files = secret.files();
      MQTT mqtt = new MQTT();
      mqtt.setHost("tlsv1.2://" + files.get("host") + ":" + files.get("port"));
      mqtt.setSslContext(trust(files.get("ca.crt")));
      mqtt.setVersion("3.1.1");
      mqtt.setClientId(clientId(files));
      mqtt.setUserName(files.get("username"));
      mqtt.setPassword(files.get("password"));
      mqtt.setConnectAttemptsMax(0); // only main knows when to connect, and with what
      mqtt.setReconnectAttemptsMax(0);
      connection = mqtt.futureConnection();
      try {
        connection.connect().await(PATIENCE, TimeUnit.SECONDS);
        log("connected");
        next = connection.receive();
        for (int number = 0; ; number++) {
          publish(TOPIC, Integer.toString(number));
          log("published " + number);
          for (Instant until = Instant.now().plusSeconds(1); Instant.now().isBefore(until); ) {
            listen();
            if (secret.isChanged() && !refresh()) {
              return "other credentials need another connection";
            }
          }
        }
      } catch (MQTTException refusal) {
        isDead = REFUSED.matcher(String.valueOf(refusal.getMessage())).find();
        return String.valueOf(refusal.getMessage());
      } catch (IOException | TimeoutException | IllegalStateException lost) {
        lastWords();
        return String.valueOf(lost.getMessage());
      } finally {
        connection.kill();
      }
    }

    /** Publishes and waits for the acknowledgement. */
    private void publish(String topic, String payload) throws Exception {
      connection.publish(topic, payload.getBytes(), QoS.AT_LEAST_ONCE, false).await(PATIENCE, TimeUnit.SECONDS);
    }

    /** Takes in what the broker says, for a moment. */
    private void listen() throws Exception {
      try {
        hear(next.await(50, TimeUnit.MILLISECONDS));
        next = connection.receive();
      } catch (TimeoutException nothing) {
        // It has nothing to say.
      }
    }

    /** A notice may come by after the end of the connection that it is about. */
    private void lastWords() throws Exception {
      try {
        if (next != null) {
          hear(next.await(200, TimeUnit.MILLISECONDS));
        }
      } catch (IOException | TimeoutException nothing) {
        // It has said nothing.
      }
    }

    private void hear(Message message) {
      String payload = new String(message.getPayload());
      message.ack();
      if (message.getTopic().equals("$SYS/tokenInvalidNotice")) {
        log("the broker says: " + payload);
        isDead = isDead || OVER.matcher(payload).find();
      }
    }

    /** Uploads new tokens, while nothing else is published; false where that does not do. */
    private boolean refresh() throws Exception {
      Secret newer = load();
      for (String name : List.of("username", "client-id", "url")) {
        if (!Objects.equals(newer.files().get(name), secret.files().get(name))) {
          return false;
        }
      }
      if (newer.tokens().isEmpty() || !newer.types().equals(secret.types())) {
        return false;
      }
      for (MatchResult token : newer.tokens()) {
        publish("$SYS/uploadToken", "{\"token\":\"" + token.group(2) + "\",\"type\":\"" + token.group(1) + "\"}");
      }
      secret = newer;
      log("uploaded new tokens");
      return true;
    }
  }

  private static void log(String text) {
    System.out.println(text);
  }

  private static Duration longer(Duration wait, Duration longest) {
    Duration twice = wait.multipliedBy(2);
    return twice.compareTo(longest) < 0 ? twice : longest;
  }

  /** Connects, again and again. */
  public static void main(String[] arguments) throws Exception {
    Duration wait = Duration.ofSeconds(1);
    Duration waitDead = Duration.ofSeconds(30);
    while (true) {
      Secret secret = load();
      if (secret.tokens().isEmpty()) {
        log("waiting: the tokens were taken back");
        waitForChange(secret, Duration.ofDays(365));
        continue;
      }
      Session session = new Session(secret);
      Instant began = Instant.now();
      log("not connected: " + session.run());
      if (Duration.between(began, Instant.now()).toSeconds() > 30) {
        wait = Duration.ofSeconds(1);
        waitDead = Duration.ofSeconds(30);
      }
      if (session.isDead) {
        log("waiting: the broker does not take these tokens; others will come");
        waitForChange(session.secret, waitDead);
        waitDead = longer(waitDead, LONGEST_DEAD);
      } else if (!session.secret.isChanged()) {
        waitForChange(session.secret, wait);
        wait = longer(wait, LONGEST);
      }
    }
  }
}
