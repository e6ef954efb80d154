import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;

/** Uses the Java file of the page, in the program that test_call_it runs. */
class CallIt {
    private static final Pattern ID = Pattern.compile("\"portfolioId\":\"([0-9a-f]+)\"");

    public static void main(String[] arguments) throws Exception {
        var portfolios = new Portfolios();
        var word = arguments[0];
        List<String> created = new ArrayList<>();
        for (int number = 0; number < 3; number++) {
            created.add(portfolios.create("{\"name\":\"" + word + " " + number + "\"}").body());
        }
        List<String> pages = new ArrayList<>();
        portfolios.search("limit=2&name_like=" + word, pages::add);
        var names = "[\"" + word.toUpperCase() + " 1\",\"" + word + " unknown\"]";
        var resolved = portfolios.resolve("{\"ids\":[\"nonsense\"],\"names\":" + names + "}").body();
        var id = ID.matcher(created.get(0)).results().findFirst().orElseThrow().group(1);
        var renamed = rename(portfolios, id, word, 1);
        if (renamed.statusCode() == 409) {
            renamed = rename(portfolios, id, word, 2);
        }
        System.out.printf(
            "{\"created\":%s,\"pages\":%s,\"resolved\":%s,\"renamed\":%s}%n",
            created, pages, resolved, renamed.body());
    }

    private static java.net.http.HttpResponse<String> rename(
            Portfolios portfolios, String id, String word, int version) throws Exception {
        return portfolios.update(id, "{\"portfolioId\":\"" + id + "\",\"name\":\"" + word
            + " renamed\",\"version\":" + version + "}");
    }
}
