// The benchmark's events on socket.io.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const http = createServer();
const options = {};
if (process.env.REDIS) {
  const publisher = createClient({ url: process.env.REDIS });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  options.adapter = createAdapter(publisher, subscriber);
}
const io = new Server(http, options);

io.on("connection", (socket) => {
  socket.join("all");
  if (socket.handshake.query.room) socket.join(socket.handshake.query.room);
  socket.on("echo", (...args) => args.pop()(...args));
  socket.on("echo_emit", (...args) => socket.emit("echo", ...args));
  socket.on("bcast", (payload) => io.to("all").emit("msg", payload));
  socket.on("bcast_skip", (payload) => socket.to("all").emit("msg", payload));
  socket.on("room_bcast", (room, payload) => io.to(room).emit("msg", payload));
});

http.listen(Number(process.env.PORT ?? 3000), "0.0.0.0", 4096);
