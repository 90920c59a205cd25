// Logs a user in with the official Web SDK and prints messages as they come.
//   node receive.mjs USER PASSWORD [ORG#APP] [HOST:PORT]
import { loadWebSDK } from './websdk.mjs';

const [user, pwd, appKey = 'demo#chat', host = '127.0.0.1:8080'] = process.argv.slice(2);
if (!pwd) {
  console.error('usage: node receive.mjs USER PASSWORD [ORG#APP] [HOST:PORT]');
  process.exit(2);
}
const { connection } = loadWebSDK();
const client = new connection({ appKey, isHttpDNS: false, url: `ws://${host}/ws`, apiUrl: `http://${host}`, delivery: true });

const show = (message) => console.log(`${message.from}: ${message.msg ?? JSON.stringify(message)}`);
client.addEventHandler('tour', {
  onConnected: () => console.log(`${user} is connected; Ctrl-C ends`),
  onTextMessage: show, onCmdMessage: show, onCustomMessage: show, onLocationMessage: show,
  onDisconnected: (reason) => process.exit(reason ? 1 : 0),
});
process.on('SIGINT', () => client.close());
client.open({ user, pwd }).catch((error) => {
  console.error(`login failed: ${error.message}`);
  process.exit(1);
});
