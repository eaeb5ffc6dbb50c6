// A Better Auth server on 127.0.0.1:PORT. It keeps users and keys in memory.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { fromNodeHeaders, toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";
import { SignJWT } from "jose";

const { ALG = "EdDSA", BETTER_AUTH_SECRET, COOKIE_KEY = "published", PORT } = process.env;

const auth = betterAuth({
  baseURL: `http://127.0.0.1:${PORT}`,
  secret: BETTER_AUTH_SECRET,
  emailAndPassword: { enabled: true },
  // Session cookies that look like tokens. They are signed like the plugin's tokens or with the secret.
  session: { cookieCache: { enabled: true, strategy: "jwt" } },
  plugins: [jwt({ jwks: { keyPairConfig: { alg: ALG } }, sessionCookieCache: COOKIE_KEY === "published" })],
});

// The other way to get a token: the application signs it with the shared secret.
async function handSigned(request, response) {
  const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
  if (!session) return response.writeHead(401).end();
  const token = await new SignJWT({ email: session.user.email })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(session.user.id)
    .setIssuedAt()
    .setExpirationTime("15m")
    .sign(new TextEncoder().encode(BETTER_AUTH_SECRET));
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ token }));
}

const betterAuthHandler = toNodeHandler(auth);
createServer((request, response) => {
  const handler = request.url === "/api/token" ? handSigned : betterAuthHandler;
  handler(request, response);
}).listen(Number(PORT), "127.0.0.1");
