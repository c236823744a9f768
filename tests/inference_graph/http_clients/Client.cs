// .NET's two HTTP clients as they come; argument: a file with lines of id, method, url, type, file.
using System;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;

static class Client
{
    static void Main(string[] arguments)
    {
        var unpacking = new HttpClientHandler { AutomaticDecompression = DecompressionMethods.GZip };
        using (var plain = new HttpClient())
        using (var announcing = new HttpClient(unpacking))
        {
            announcing.DefaultRequestHeaders.ExpectContinue = true;
            foreach (string line in File.ReadAllLines(arguments[0]))
            {
                string[] one = line.Split('\t');
                byte[] body = one[4] == "" ? null : File.ReadAllBytes(one[4]);
                foreach (bool streamed in body == null ? new[] { false } : new[] { false, true })
                {
                    Tell(one[0], "HttpClient", ByHttpClient(plain, one, body, streamed));
                    Tell(one[0], "announcing", ByHttpClient(announcing, one, body, streamed));
                    Tell(one[0], "HttpWebRequest", ByHttpWebRequest(one, body, streamed));
                }
            }
        }
    }

    static int ByHttpClient(HttpClient client, string[] one, byte[] body, bool streamed)
    {
        using (var request = new HttpRequestMessage(new HttpMethod(one[1]), one[2]))
        {
            if (body != null)
            {
                request.Content = streamed
                    ? (HttpContent)new StreamContent(new MemoryStream(body))
                    : new ByteArrayContent(body);
                request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(one[3]);
                if (streamed) request.Headers.TransferEncodingChunked = true;
            }
            using (HttpResponseMessage answer = client.SendAsync(request).Result)
            {
                answer.Content.ReadAsByteArrayAsync().Wait();
                return (int)answer.StatusCode;
            }
        }
    }

    /// <summary>Announces each body by "Expect: 100-continue", as it does by itself.</summary>
    static int ByHttpWebRequest(string[] one, byte[] body, bool streamed)
    {
        var request = (HttpWebRequest)WebRequest.Create(one[2]);
        request.Method = one[1];
        if (body != null)
        {
            request.ContentType = one[3];
            request.SendChunked = streamed;
            using (Stream stream = request.GetRequestStream()) stream.Write(body, 0, body.Length);
        }
        try
        {
            using (WebResponse answer = request.GetResponse()) return Status(answer);
        }
        catch (WebException refused) when (refused.Response != null)
        {
            return Status(refused.Response);
        }
    }

    static int Status(WebResponse answer)
    {
        answer.GetResponseStream().CopyTo(Stream.Null);
        return (int)((HttpWebResponse)answer).StatusCode;
    }

    static void Tell(string id, string client, int status)
    {
        Console.WriteLine(id + "\t" + client + "\t" + status);
    }
}
